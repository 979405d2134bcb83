"""Fixed lines of text that repaint only where they change."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from jobdeck_tui.render.spans import Line
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
        self.styles.height = height

    def update(self) -> None:
        """Repaint the lines that have become others."""
        width = self.size.width
        lines = list(self._make(width)) if width else []
        before, self._lines = self._lines, lines
        changed = [
            y for y in range(max(len(lines), len(before))) if self._at(lines, y) != self._at(before, y)
        ]
        if changed:
            self.refresh(*(Region(0, y, width, 1) for y in changed))

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
