"""The list of runs: paints the window's rows, and of those only the ones whose text changed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from textual.geometry import Region, Size
from textual.strip import Strip
from textual.widget import Widget

from jobdeck_tui.actions import MOVES
from jobdeck_tui.messages import Moved
from jobdeck_tui.render.rows import run_row
from jobdeck_tui.render.spans import Line, changed_cells
from jobdeck_tui.widgets.keys import bindings_of
from jobdeck_tui.widgets.painting import paint
from jobdeck_tui.window import RunWindow

_Shown = tuple[Line, bool]


class RunTable(Widget, can_focus=True):
    """A viewport on a `RunWindow`. The top and the end of the list are the view's matter: they need the feed."""

    DEFAULT_CSS = "RunTable { height: 1fr; width: 1fr; }"
    BINDINGS = bindings_of(action for action in MOVES if action.id not in ("first", "last"))

    def __init__(self, window: RunWindow, now: Callable[[], datetime], *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._window = window
        self._now = now
        self._shown: list[_Shown] = []
        self._made_for = Size(0, 0)
        self.notes: list[Line] = []
        """What is shown instead of rows where there are none."""

    def repaint(self) -> None:
        """Bring the screen up to date: compare the text of every visible row, refresh those that differ."""
        fresh = self._lines_now()
        if len(fresh) != len(self._shown):
            self._shown = fresh
            self.refresh()
            return
        regions = [
            self._changed(self._shown[y], shown, y)
            for y, shown in enumerate(fresh)
            if shown != self._shown[y]
        ]
        self._shown = fresh
        if regions:
            self.refresh(*regions)

    def _changed(self, before: _Shown, after: _Shown, y: int) -> Region:
        width = self.size.width
        return Region(0, y, width if before[1] != after[1] else changed_cells(before[0], after[0], width), 1)

    def _lines_now(self) -> list[_Shown]:
        window, now, width = self._window, self._now(), self.size.width
        self._made_for = self.size
        rows: list[_Shown] = []
        for run in window.visible:
            cursor = run.id == window.cursor_id
            rows.append((run_row(run, width, now, cursor=cursor, gone=window.is_gone(run.id)), cursor))
        if not rows:
            rows = [(line, False) for line in self.notes]
        return (rows + [((), False)] * (self.size.height - len(rows)))[: self.size.height]

    @property
    def lines(self) -> list[Line]:
        """What is shown, for tests."""
        return [line for line, _cursor in self._shown]

    def on_resize(self) -> None:
        self._window.set_height(self.size.height)
        self.repaint()
        self.post_message(Moved())

    def render_line(self, y: int) -> Strip:
        # Painted before its resize is told.
        if self._made_for != self.size:
            self._window.set_height(self.size.height)
            self._shown = self._lines_now()
        line, cursor = self._shown[y] if y < len(self._shown) else ((), False)
        return paint(line, self.size.width, self.rich_style, reverse=cursor)

    def _move(self, delta: int) -> None:
        self._window.move(delta)
        self.repaint()
        self.post_message(Moved())

    def action_move_down(self) -> None:
        self._move(1)

    def action_move_up(self) -> None:
        self._move(-1)

    def action_page_down(self) -> None:
        self._move(max(self.size.height - 1, 1))

    def action_page_up(self) -> None:
        self._move(-max(self.size.height - 1, 1))
