"""A short list of which one line is picked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from textual.strip import Strip
from textual.widget import Widget

from jobdeck_tui.actions import MOVES, PICK
from jobdeck_tui.messages import Moved
from jobdeck_tui.render.spans import Line
from jobdeck_tui.widgets.keys import bindings_of
from jobdeck_tui.widgets.painting import paint


@dataclass(frozen=True, slots=True)
class Item:
    """A line and the key by which it is known."""

    key: str
    line: Line


class PickList(Widget, can_focus=True):
    """The cursor is a key, so that it stays where it is when the items are read again."""

    DEFAULT_CSS = "PickList { height: 1fr; width: 1fr; }"
    BINDINGS = bindings_of((*MOVES, *(action for action in PICK if action.id != "back")))

    class Picked(Moved):
        """The operator chose an item."""

        def __init__(self, key: str) -> None:
            super().__init__()
            self.key = key

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._items: list[Item] = []
        self._key: str | None = None
        self._top = 0
        self.note: Line = ()

    def show(self, items: Sequence[Item]) -> None:
        """Replace the items."""
        self._items = list(items)
        if self._index() is None:
            self._key = self._items[0].key if self._items else None
        self._move(0)

    def _index(self) -> int | None:
        return next((n for n, item in enumerate(self._items) if item.key == self._key), None)

    def _move(self, delta: int) -> None:
        index = self._index()
        if index is not None:
            index = max(0, min(index + delta, len(self._items) - 1))
            self._key = self._items[index].key
            height = max(self.size.height, 1)
            self._top = min(max(self._top, index - height + 1), index)
        self.refresh()

    def on_resize(self) -> None:
        self._move(0)

    def render_line(self, y: int) -> Strip:
        index = self._top + y
        if not self._items and y == 1:
            return paint(self.note, self.size.width, self.rich_style)
        if index >= len(self._items):
            return paint((), self.size.width, self.rich_style)
        item = self._items[index]
        chosen = item.key == self._key
        line = ((">" if chosen else " ", "strong"), *item.line)
        return paint(line, self.size.width, self.rich_style, reverse=chosen)

    def action_move_down(self) -> None:
        self._move(1)

    def action_move_up(self) -> None:
        self._move(-1)

    def action_page_down(self) -> None:
        self._move(max(self.size.height - 1, 1))

    def action_page_up(self) -> None:
        self._move(-max(self.size.height - 1, 1))

    def action_first(self) -> None:
        self._move(-len(self._items))

    def action_last(self) -> None:
        self._move(len(self._items))

    def action_choose(self) -> None:
        if self._key is not None:
            self.post_message(self.Picked(self._key))
