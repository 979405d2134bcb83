"""The last line: hints, or a question, or a line of input. While one of the latter two is open it holds the keys."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from textual.app import ComposeResult
from textual.widget import Widget
from textual.widgets import ContentSwitcher

from jobdeck.limits import REASON_CHARS
from jobdeck_tui.render.confirm import Question
from jobdeck_tui.render.spans import Line
from jobdeck_tui.shell import LineWanted
from jobdeck_tui.widgets.confirm_bar import ConfirmBar
from jobdeck_tui.widgets.line_bar import LineBar
from jobdeck_tui.widgets.prompt_line import PromptLine


class Foot(ContentSwitcher):
    """`answered` gets every answer; `release` gives the keys back to the view when a question or an input is over."""

    DEFAULT_CSS = "Foot { height: 1; }"

    def __init__(
        self,
        hints: Callable[[int], Line],
        job_types: Callable[[], Iterable[str]],
        answered: Callable[[Question, bool], None],
        release: Callable[[], None],
        monotonic: Callable[[], float],
    ) -> None:
        super().__init__(initial="hints", id="foot")
        self._hints = hints
        self._job_types = job_types
        self._answered = answered
        self._release = release
        self._monotonic = monotonic

    def compose(self) -> ComposeResult:
        yield LineBar(self._hints, id="hints")
        yield ConfirmBar(self._answer, self._want_reason, self._monotonic, id="confirm")
        yield PromptLine(self._job_types, self._close, id="prompt")

    def update(self) -> None:
        """Other hints may apply."""
        self.query_one("#hints", LineBar).update()

    def dismiss(self) -> None:
        """Drop what is open: the view it belongs to goes."""
        self.query_one(ConfirmBar).question = None
        self.query_one(PromptLine).dismiss()
        self.current = "hints"

    def ask(self, question: Question) -> None:
        """Open a question."""
        bar = self.query_one(ConfirmBar)
        bar.open(question)
        self._open("confirm", bar)

    def prompt(self, wanted: LineWanted) -> None:
        """Ask for a line."""
        self._open("prompt", self.query_one(PromptLine).open(wanted))

    def _open(self, part: str, holder: Widget) -> None:
        self.current = part
        # At once: `Widget.focus` would leave the keys that were typed meanwhile to the view.
        self.screen.set_focus(holder)

    def _close(self) -> None:
        self.current = "hints"
        self._release()

    def _answer(self, question: Question, yes: bool) -> None:
        self._close()
        self._answered(question, yes)

    def _want_reason(self, question: Question) -> None:
        def given(text: str | None) -> None:
            # The reason answers nothing yet: back to the question.
            reason = question.reason if text is None else text.strip()[:REASON_CHARS]
            self.ask(replace(question, reason=reason))

        self.prompt(LineWanted("reason", question.reason, given))
