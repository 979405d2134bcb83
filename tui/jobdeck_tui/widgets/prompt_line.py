"""One line of input in the place of the hint line: the filter, a search, a reason."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from textual import events
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.suggester import Suggester
from textual.widgets import Input

from jobdeck.text import clean
from jobdeck_tui.filters import complete
from jobdeck_tui.messages import LineGiven, WantLine
from jobdeck_tui.widgets.line_bar import LineBar

_LABEL_MAX = 12


class FilterSuggester(Suggester):
    """Completes the last word of a filter; right arrow takes it."""

    def __init__(self, job_types: Callable[[], Iterable[str]]) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._job_types = job_types

    async def get_suggestion(self, value: str) -> str | None:
        return complete(value, (clean(name) for name in self._job_types()))


class PromptLine(Horizontal):
    """Asks for one line on behalf of another widget. Enter gives it, Escape turns away."""

    DEFAULT_CSS = f"""
    PromptLine {{ height: 1; width: 1fr; }}
    PromptLine > LineBar {{ width: {_LABEL_MAX}; }}
    PromptLine > Input {{ width: 1fr; }}
    """

    def __init__(self, job_types: Callable[[], Iterable[str]], *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._suggester = FilterSuggester(job_types)
        self._wanted: WantLine | None = None

    def compose(self) -> ComposeResult:
        yield LineBar(id="prompt-label")
        yield Input(compact=True, select_on_focus=False, id="prompt-input")

    def ask(self, wanted: WantLine) -> None:
        """Begin; the caller has shown this line."""
        self._wanted = wanted
        self.query_one(LineBar).become(lambda _width: ((f" {wanted.label}: ", "ask"),))
        edit = self.query_one(Input)
        edit.suggester = self._suggester if wanted.purpose == "filter" else None
        edit.value = wanted.text
        edit.cursor_position = len(wanted.text)
        edit.focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._give(clean(event.value))

    def on_key(self, event: events.Key) -> None:
        if event.key == "escape":
            event.stop()
            event.prevent_default()
            self._give(None)

    def _give(self, text: str | None) -> None:
        wanted, self._wanted = self._wanted, None
        if wanted is not None:
            self.post_message(LineDone(wanted, text))


class LineDone(LineGiven):
    """A `LineGiven` on its way through the console to the widget that asked."""

    def __init__(self, wanted: WantLine, text: str | None) -> None:
        super().__init__(wanted.purpose, text)
        self.wanted = wanted
