"""A scrolling view of lines: wrap, search, follow the end. Paints only what is visible."""

from __future__ import annotations

from collections.abc import Sequence

from textual.geometry import Size
from textual.strip import Strip
from textual.widget import Widget

from jobdeck_tui.actions import MOVES, PAGER
from jobdeck_tui.messages import Moved
from jobdeck_tui.render.spans import Line, plain, wrapped
from jobdeck_tui.shell import LineWanted, Shell
from jobdeck_tui.widgets.keys import bindings_of
from jobdeck_tui.widgets.painting import highlighted, paint


class LineView(Widget, can_focus=True):
    """Lines, from `show`; grown by `append`. Rows are lines, or parts of lines while wrapping."""

    DEFAULT_CSS = "LineView { height: 1fr; width: 1fr; }"
    BINDINGS = bindings_of((*MOVES, *PAGER))
    WRAP = True
    LINES_MAX = 6_000

    def __init__(self, shell: Shell, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._shell = shell
        self._lines: list[Line] = []
        self._rows: list[tuple[int, Line]] = []
        self._top = 0
        self._made_for = Size(0, 0)
        self._needle = ""
        self._found: int | None = None
        self.wrap = self.WRAP
        self.following = False

    # Content

    def show(self, lines: Sequence[Line], *, keep_place: bool = False) -> None:
        """Replace everything; `keep_place` stays where the reader is."""
        if list(lines) == self._lines:
            return
        self._lines = list(lines[: self.LINES_MAX])
        self._layout(keep_line=self._top_line() if keep_place else 0)

    def append(self, lines: Sequence[Line]) -> None:
        """Add lines at the end; the oldest go where there are too many."""
        if not lines:
            return
        first, rows_before = len(self._lines), len(self._rows)
        self._lines += lines
        self._rows += self._rows_of(first)
        extra = len(self._lines) - self.LINES_MAX
        if extra > 0:
            del self._lines[:extra]
            dropped = next(
                (n for n, (index, _row) in enumerate(self._rows) if index >= extra), len(self._rows)
            )
            self._rows = [(index - extra, row) for index, row in self._rows[dropped:]]
            self._top -= dropped
        in_view = rows_before < self._top + self.size.height
        if self.following:
            self._top = self._bottom
        self._top = max(min(self._top, self._bottom), 0)
        if self.following or extra > 0 or in_view:
            self.refresh()

    def _layout(self, *, keep_line: int) -> None:
        self._arrange(keep_line)
        self.refresh()

    def _arrange(self, keep_line: int) -> None:
        self._made_for = self.size
        self._rows = self._rows_of(0)
        if self.following:
            self._top = self._bottom
        else:
            self._top = next((n for n, (index, _row) in enumerate(self._rows) if index >= keep_line), 0)
            self._top = max(min(self._top, self._bottom), 0)

    def _rows_of(self, first: int) -> list[tuple[int, Line]]:
        width = self.size.width
        rows: list[tuple[int, Line]] = []
        for index in range(first, len(self._lines)):
            line = self._lines[index]
            parts = wrapped(line, width) if self.wrap and width else [line]
            rows += [(index, part) for part in parts]
        return rows

    @property
    def lines(self) -> Sequence[Line]:
        """All lines held."""
        return self._lines

    @property
    def visible_rows(self) -> list[Line]:
        """The rows on the screen."""
        return [row for _index, row in self._rows[self._top : self._top + self.size.height]]

    @property
    def _bottom(self) -> int:
        return max(len(self._rows) - self.size.height, 0)

    def _top_line(self) -> int:
        return self._rows[self._top][0] if self._top < len(self._rows) else 0

    # Painting

    def on_resize(self) -> None:
        self._layout(keep_line=self._top_line())

    def render_line(self, y: int) -> Strip:
        # Painted before its resize is told.
        if self._made_for != self.size:
            self._arrange(self._top_line())
        index = self._top + y
        line = self._rows[index][1] if index < len(self._rows) else ()
        return paint(highlighted(line, self._needle), self.size.width, self.rich_style)

    # Moving

    def _scroll(self, top: int) -> None:
        self._top = max(min(top, self._bottom), 0)
        self.refresh()
        self.post_message(Moved())

    def _step(self, delta: int) -> None:
        if delta < 0:
            self.following = False
        self._scroll(self._top + delta)

    def action_move_down(self) -> None:
        self._step(1)

    def action_move_up(self) -> None:
        self._step(-1)

    def action_page_down(self) -> None:
        self._step(max(self.size.height - 1, 1))

    def action_page_up(self) -> None:
        self._step(-max(self.size.height - 1, 1))

    def action_first(self) -> None:
        self.following = False
        self._scroll(0)

    def action_last(self) -> None:
        self._scroll(self._bottom)

    def action_follow(self) -> None:
        """Text that does not grow has no end to follow."""

    # Wrapping and searching

    def action_wrap(self) -> None:
        self.wrap = not self.wrap
        self._layout(keep_line=self._top_line())
        self.post_message(Moved())

    def action_search(self) -> None:
        self._shell.want_line(LineWanted("search", self._needle, self._search_for))

    def _search_for(self, text: str | None) -> None:
        """Go to the next line with this text; an empty one ends the search."""
        if text is None:
            return
        self._needle = text.strip()
        self.refresh()
        self._found = None
        if self._needle:
            self._find(self._top_line(), 1)

    def action_next_match(self) -> None:
        self._find(self._match_in_view() + 1, 1)

    def action_previous_match(self) -> None:
        self._find(self._match_in_view() - 1, -1)

    def _match_in_view(self) -> int:
        """The last match while it is on the screen; else the top line, where the reader is now."""
        in_view = {index for index, _row in self._rows[self._top : self._top + self.size.height]}
        return self._found if self._found in in_view else self._top_line()

    def _find(self, start: int, step: int) -> None:
        needle = self._needle.lower()
        if not needle:
            self._shell.tell("nothing to search for: / first")
            return
        count = len(self._lines)
        for offset in range(count):
            index = (start + step * offset) % count
            if needle in plain(self._lines[index]).lower():
                self.following = False
                self._found = index
                self._scroll(next(n for n, (line, _row) in enumerate(self._rows) if line == index))
                self._shell.tell(f"{self._needle!r} in line {index + 1} of {count}")
                return
        self._shell.tell(f"{self._needle!r} is not in these {count} lines", bad=True)
