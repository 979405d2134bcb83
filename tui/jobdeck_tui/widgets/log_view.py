"""The log of a run: its tail first, growing; the beginning on request, page by page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from uuid import UUID

from jobdeck.model import LogEntry
from jobdeck_tui.messages import LogRead
from jobdeck_tui.render.logs import attempt_mark, log_line
from jobdeck_tui.render.spans import Line
from jobdeck_tui.shell import Shell
from jobdeck_tui.widgets.line_view import LineView

_ENTRIES_MAX = 2_000


class LogView(LineView):
    """A stretch of the log without gaps: either up to its end (growing), or from its beginning on."""

    WRAP = False
    LINES_MAX = _ENTRIES_MAX

    def __init__(
        self,
        shell: Shell,
        load_tail: Callable[[], None],
        load_after: Callable[[int], None],
        *,
        id: str | None = None,
    ) -> None:
        super().__init__(shell, id=id)
        self._load_tail = load_tail
        self._load_after = load_after
        self.run_id: UUID | None = None
        self.last_id = 0
        self._attempt = 0
        self._from_start = False
        self._complete = False
        self._loading = False
        self._vacant = True

    def open(self, run_id: UUID) -> None:
        """Show the log of another run, from its end."""
        self.run_id = run_id
        self.following = True
        self._restart()
        self._loading = True
        self.show([((" reading …", "dim"),)])

    def _restart(self) -> None:
        self.last_id, self._attempt = 0, 0
        self._from_start = self._complete = False
        self._vacant = True

    @property
    def wants_new(self) -> bool:
        """Whether the poll should fetch what is new: only where the stretch held reaches the end and has room."""
        return self._complete and not self._loading and (self.following or len(self._lines) < _ENTRIES_MAX)

    @property
    def place(self) -> str:
        """Which stretch of the log is held, for the line below."""
        extent = "all" if self._from_start and self._complete else "first" if self._from_start else "last"
        count = 0 if self._vacant else len(self._lines)
        mode = "following" if self.following else "F follows"
        return f"{extent} {count} lines, {mode}"

    def take_in(self, message: LogRead) -> None:
        """Entries from the feed; those that do not continue the stretch held are dropped."""
        restart = message.after is None
        if message.run_id != self.run_id or not (restart or message.after == self.last_id):
            return
        if restart:
            self._restart()
            self._from_start = message.from_start
        self._loading = False
        self._complete = message.complete
        lines = self._lines_of(message.entries)
        if restart or self._vacant:
            self._vacant = not lines
            self.show(lines or [((" no log yet", "dim"),)])
        else:
            # The oldest lines go where there are too many.
            self._from_start = self._from_start and len(self._lines) + len(lines) <= self.LINES_MAX
            self.append(lines)

    def _lines_of(self, entries: Sequence[LogEntry]) -> list[Line]:
        lines: list[Line] = []
        for entry in entries:
            if entry.attempt != self._attempt and (self._attempt or entry.attempt > 1):
                lines.append(attempt_mark(entry.attempt))
            self._attempt = entry.attempt
            self.last_id = entry.id
            lines.append(log_line(entry))
        return lines

    def action_first(self) -> None:
        """To the first entry of the log, which is read if it is not held."""
        self.following = False
        if self._from_start:
            super().action_first()
        elif not self._loading:
            self._loading = True
            self._load_after(0)

    def action_last(self) -> None:
        """To the last entry, and follow."""
        self.following = True
        if self._complete:
            super().action_last()
        elif not self._loading:
            self._loading = True
            self._load_tail()

    def action_follow(self) -> None:
        if self.following:
            self.following = False
            self._scroll(self._top)
        else:
            self.action_last()

    def _scroll(self, top: int) -> None:
        super()._scroll(top)
        near_end = self._top + 2 * self.size.height >= len(self._rows)
        if not self._complete and not self._loading and near_end and self.last_id:
            self._loading = True
            self._load_after(self.last_id)
