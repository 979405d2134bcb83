"""The last line: hints, or a question, or a line of input. While one of the latter two is open it holds the keys."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from textual.app import ComposeResult
from textual.widgets import ContentSwitcher

from jobdeck.limits import REASON_CHARS
from jobdeck_tui.messages import Answered, AskReason, Changed, LineGiven, WantLine
from jobdeck_tui.render.confirm import Question
from jobdeck_tui.render.spans import Line
from jobdeck_tui.widgets.confirm_bar import ConfirmBar
from jobdeck_tui.widgets.line_bar import LineBar
from jobdeck_tui.widgets.prompt_line import LineDone, PromptLine


class Foot(ContentSwitcher):
    """`release` gives the keys back to the view when a question or an input is over."""

    DEFAULT_CSS = "Foot { height: 1; }"

    def __init__(
        self,
        hints: Callable[[int], Line],
        job_types: Callable[[], Iterable[str]],
        release: Callable[[], None],
        monotonic: Callable[[], float],
    ) -> None:
        super().__init__(initial="hints", id="foot")
        self._hints = hints
        self._job_types = job_types
        self._release = release
        self._monotonic = monotonic
        self._reason_for: Question | None = None

    def compose(self) -> ComposeResult:
        yield LineBar(self._hints, id="hints")
        yield ConfirmBar(self._monotonic, id="confirm")
        yield PromptLine(self._job_types, id="prompt")

    def update(self) -> None:
        """Other hints may apply."""
        self.query_one("#hints", LineBar).update()

    def ask(self, question: Question) -> None:
        """Open a question; its answer comes as `Answered`."""
        bar = self.query_one(ConfirmBar)
        bar.ask(question)
        self.current = "confirm"
        bar.focus()

    def prompt(self, wanted: WantLine) -> None:
        """Ask for a line; it goes to whoever wanted it."""
        self.current = "prompt"
        self.query_one(PromptLine).ask(wanted)

    def _close(self) -> None:
        self.current = "hints"
        self._release()

    def on_answered(self, _message: Answered) -> None:
        self._close()

    def on_ask_reason(self, message: AskReason) -> None:
        message.stop()
        self._reason_for = message.question
        self.prompt(WantLine(self, "reason", "reason", message.question.reason))

    def on_line_done(self, message: LineDone) -> None:
        message.stop()
        self._close()
        message.wanted.asker.post_message(LineGiven(message.purpose, message.text))

    def on_line_given(self, message: LineGiven) -> None:
        """The reason: back to the question, which still needs its yes."""
        message.stop()
        question, self._reason_for = self._reason_for, None
        if question is not None:
            reason = question.reason if message.text is None else message.text.strip()[:REASON_CHARS]
            self.ask(replace(question, reason=reason))
        self.post_message(Changed())
