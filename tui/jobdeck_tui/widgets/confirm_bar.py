"""The question before a write, in the place of the hint line."""

from __future__ import annotations

from collections.abc import Callable

from textual import events
from textual.strip import Strip
from textual.widget import Widget

from jobdeck_tui.messages import Answered, AskReason
from jobdeck_tui.render.confirm import REASON, YES, Question, confirm_line
from jobdeck_tui.widgets.painting import paint

GUARD_S = 0.3
"""Keys this soon after the question were meant for something else, or are the opener repeating itself."""


class ConfirmBar(Widget, can_focus=True):
    """Holds all keys while a question is open. Only the yes key says yes; Enter is a no."""

    DEFAULT_CSS = "ConfirmBar { height: 1; width: 1fr; }"

    def __init__(self, monotonic: Callable[[], float], *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._monotonic = monotonic
        self.question: Question | None = None
        self._opened_at = 0.0

    def ask(self, question: Question) -> None:
        """Open the question; the caller shows and focuses the bar."""
        self.question = question
        self._opened_at = self._monotonic()
        self.refresh()

    async def on_key(self, event: events.Key) -> None:
        # Nothing gets through to the bindings behind: a stray key must not act on the list.
        event.stop()
        event.prevent_default()
        question = self.question
        if question is None or self._monotonic() - self._opened_at < GUARD_S or event.key == question.opener:
            return
        if event.key == YES:
            self._answer(question, yes=True)
        elif event.key == REASON:
            self.post_message(AskReason(question))
        elif event.key in ("enter", "escape", "n", "N", "q", "h", "backspace"):
            self._answer(question, yes=False)

    def _answer(self, question: Question, *, yes: bool) -> None:
        self.question = None
        self.post_message(Answered(question, yes=yes))

    def render_line(self, y: int) -> Strip:
        line = confirm_line(self.question, self.size.width) if self.question and y == 0 else ()
        return paint(line, self.size.width, self.rich_style)
