"""One line of input in the place of the hint line: the filter, a search, a reason."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.suggester import Suggester
from textual.widgets import Input

from jobdeck.text import clean
from jobdeck_tui.filters import complete
from jobdeck_tui.shell import LineWanted
from jobdeck_tui.widgets.line_bar import LineBar

_LABEL_CELLS = 10


class FilterSuggester(Suggester):
    """Completes the last word of a filter; the right arrow or tab takes it."""

    def __init__(self, job_types: Callable[[], Iterable[str]]) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._job_types = job_types

    def completed(self, value: str) -> str | None:
        """The whole line with its last word completed."""
        return complete(value, (clean(name) for name in self._job_types()))

    async def get_suggestion(self, value: str) -> str | None:
        return self.completed(value)


class LineInput(Input):
    """An input that gives its line at once: the key after Enter is not the line's any more."""

    def __init__(self, submit: Callable[[str], None]) -> None:
        super().__init__(compact=True, select_on_focus=False)
        self._submit = submit

    async def action_submit(self) -> None:
        self._submit(self.value)


class PromptLine(Horizontal):
    """Asks for one line. Enter gives it, Escape turns away; `close` is called before the asker hears of it."""

    DEFAULT_CSS = f"""
    PromptLine {{ height: 1; width: 1fr; }}
    PromptLine > LineBar {{ width: {_LABEL_CELLS}; }}
    PromptLine > Input {{ width: 1fr; }}
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "turn_away", show=False),
        Binding("tab", "complete", show=False),
        # Without this the focus would leave a line that is still open.
        Binding("shift+tab", "complete", show=False),
    ]

    def __init__(
        self, job_types: Callable[[], Iterable[str]], close: Callable[[], None], *, id: str | None = None
    ) -> None:
        super().__init__(id=id)
        self._suggester = FilterSuggester(job_types)
        self._close = close
        self._wanted: LineWanted | None = None

    def compose(self) -> ComposeResult:
        yield LineBar()
        yield LineInput(self._submit)

    def open(self, wanted: LineWanted) -> Input:
        """Begin; returns the widget that is to get the keys."""
        self._wanted = wanted
        self.query_one(LineBar).become(lambda _width: ((f" {wanted.label}: ", "ask"),))
        edit = self.query_one(Input)
        edit.suggester = self._suggester if wanted.is_filter else None
        edit.value = wanted.text
        edit.cursor_position = len(wanted.text)
        return edit

    def dismiss(self) -> None:
        """Ask no more; nobody gets an answer."""
        self._wanted = None

    def _submit(self, text: str) -> None:
        self._give(clean(text))

    def action_turn_away(self) -> None:
        self._give(None)

    def action_complete(self) -> None:
        edit = self.query_one(Input)
        if (
            self._wanted is not None
            and self._wanted.is_filter
            and (line := self._suggester.completed(edit.value))
        ):
            edit.value = line
            edit.cursor_position = len(line)

    def _give(self, text: str | None) -> None:
        wanted, self._wanted = self._wanted, None
        if wanted is not None:
            self._close()
            wanted.then(text)
