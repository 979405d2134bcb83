"""The question before a write, in the place of the hint line."""

from __future__ import annotations

from collections.abc import Callable

from textual import events
from textual.strip import Strip
from textual.widget import Widget

from jobdeck_tui.actions import QUIT
from jobdeck_tui.render.confirm import REASON, YES, Question, confirm_line
from jobdeck_tui.widgets.painting import paint

GUARD_S = 0.3
"""Keys this soon after the question were meant for something else, or are the opener repeating itself."""
_NO = frozenset({"enter", "escape", "n", "N", "q", "h", "backspace"})


class ConfirmBar(Widget, can_focus=True):
    """Holds all keys while a question is open. Only the yes key says yes; Enter is a no."""

    DEFAULT_CSS = "ConfirmBar { height: 1; width: 1fr; }"

    def __init__(
        self,
        answer: Callable[[Question, bool], None],
        want_reason: Callable[[Question], None],
        monotonic: Callable[[], float],
        *,
        id: str | None = None,
    ) -> None:
        super().__init__(id=id)
        self._answer = answer
        self._want_reason = want_reason
        self._monotonic = monotonic
        self.question: Question | None = None
        self._opened_at = 0.0

    def open(self, question: Question) -> None:
        """Show a question; the caller gives this bar the keys."""
        self.question = question
        self._opened_at = self._monotonic()
        self.refresh()

    def check_consume_key(self, key: str, character: str | None) -> bool:
        """Every key but the one that quits: none may act on what lies behind the question."""
        return key != QUIT.keys

    def on_key(self, event: events.Key) -> None:
        event.stop()
        event.prevent_default()
        question = self.question
        if question is None or self._monotonic() - self._opened_at < GUARD_S or event.key == question.opener:
            return
        yes = event.key == YES
        if event.key in _NO or (yes and not question.lacks_reason):
            self.question = None
            self._answer(question, yes)
        elif yes or event.key == REASON:
            self._want_reason(question)

    def render_line(self, y: int) -> Strip:
        line = confirm_line(self.question, self.size.width) if self.question and y == 0 else ()
        return paint(line, self.size.width, self.rich_style)
