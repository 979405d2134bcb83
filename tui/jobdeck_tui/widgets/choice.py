"""One of a few values on one line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.strip import Strip
from textual.widget import Widget

from jobdeck_tui.render.spans import Line, safe
from jobdeck_tui.widgets.painting import paint

NOT_SET = "(not set)"


class Choice(Widget, can_focus=True):
    """Left and right (or space) go through the values; the empty one reads `(not set)`."""

    DEFAULT_CSS = "Choice { height: 1; width: 1fr; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right,space,l", "turn(1)", show=False),
        Binding("left,h", "turn(-1)", show=False),
    ]

    def __init__(self, values: Sequence[str], value: str, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._values = list(values)
        self.value = value

    def action_turn(self, step: int) -> None:
        """The next or previous value, round and round."""
        index = self._values.index(self.value) if self.value in self._values else -step
        self.value = self._values[(index + step) % len(self._values)]
        self.refresh()

    @property
    def line(self) -> Line:
        """What is shown."""
        shown = safe(self.value, 60) if self.value else NOT_SET
        place = (
            f"  {self._values.index(self.value) + 1}/{len(self._values)}"
            if self.value in self._values
            else ""
        )
        return (("< ", "dim"), (shown, "text"), (" >", "dim"), (place, "dim"))

    def render_line(self, y: int) -> Strip:
        line = self.line if y == 0 else ()
        return paint(line, self.size.width, self.rich_style, reverse=self.has_focus)

    def on_focus(self) -> None:
        self.refresh()

    def on_blur(self) -> None:
        self.refresh()
