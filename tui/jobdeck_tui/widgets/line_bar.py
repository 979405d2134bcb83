"""Fixed lines of text that repaint only where they change."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from jobdeck_tui.render.spans import Line, changed_cells
from jobdeck_tui.widgets.painting import paint


class LineBlock(Widget):
    """Lines made by a function of the width; `update` asks the function again."""

    DEFAULT_CSS = "LineBlock { height: 1; width: 1fr; }"

    def __init__(
        self, make: Callable[[int], Sequence[Line]], *, height: int = 1, id: str | None = None
    ) -> None:
        super().__init__(id=id)
        self._make = make
        self._lines: list[Line] = []
        self._made_for = 0
        self.styles.height = height

    def update(self) -> None:
        """Repaint the lines that have become others."""
        width = self.size.width
        before, lines = self._lines, self._made()
        changed = [
            y for y in range(max(len(lines), len(before))) if self._at(lines, y) != self._at(before, y)
        ]
        if changed:
            self.refresh(*(self._part(before, lines, y, width) for y in changed))

    def _made(self) -> list[Line]:
        self._made_for = self.size.width
        self._lines = list(self._make(self._made_for)) if self._made_for else []
        return self._lines

    def _part(self, before: Sequence[Line], after: Sequence[Line], y: int, width: int) -> Region:
        return Region(0, y, changed_cells(self._at(before, y), self._at(after, y), width), 1)

    @staticmethod
    def _at(lines: Sequence[Line], y: int) -> Line:
        return lines[y] if y < len(lines) else ()

    @property
    def lines(self) -> list[Line]:
        """What is shown."""
        return self._lines

    def on_resize(self) -> None:
        self.update()

    def render_line(self, y: int) -> Strip:
        # Painted before its resize is told: a refresh that came later could get lost with the layout it came in.
        if self._made_for != self.size.width:
            self._made()
        return paint(self._at(self._lines, y), self.size.width, self.rich_style)


class LineBar(LineBlock):
    """One line."""

    def __init__(self, make: Callable[[int], Line] = lambda _width: (), *, id: str | None = None) -> None:
        super().__init__(lambda width: [self._line(width)], id=id)
        self._line = make

    def become(self, make: Callable[[int], Line]) -> None:
        """From now on show what another function makes."""
        self._line = make
        self.update()
