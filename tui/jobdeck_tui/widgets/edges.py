"""The lines at the edges of every view: who, where and how fresh; what was done last."""

from __future__ import annotations

from dataclasses import replace

from jobdeck_tui.render.header import Fleet, Freshness, title_line
from jobdeck_tui.render.notice import Notice, notice_line
from jobdeck_tui.widgets.line_bar import LineBar


class TitleBar(LineBar):
    """Team, project, workers, and whether what is shown is true."""

    def __init__(self, team: str, project: str | None) -> None:
        super().__init__(lambda width: title_line(team, project, self._fleet, self._fresh, width), id="title")
        self._fleet, self._fresh = Fleet(), Freshness()

    def show_fleet(self, fleet: Fleet) -> None:
        """Other workers."""
        self._fleet = fleet
        self.update()

    def show_fresh(self, stale_s: int | None = None) -> None:
        """The last look succeeded, or what is shown is `stale_s` seconds old."""
        loaded = self._fresh.loaded or stale_s is None
        self._fresh = replace(self._fresh, loaded=loaded, stale_s=stale_s)
        self.update()


class NoticeBar(LineBar):
    """What was done last, and its outcome."""

    def __init__(self) -> None:
        super().__init__(lambda width: notice_line(self._notice, width), id="notice")
        self._notice = Notice()

    def tell(self, notice: Notice) -> None:
        """Say something else."""
        self._notice = notice
        self.update()
