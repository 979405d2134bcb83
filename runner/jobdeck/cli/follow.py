"""Printing a run's log, once or until the run ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import UUID

from jobdeck.cli.json_form.runs import entry_json
from jobdeck.cli.log_lines import entry_text
from jobdeck.cli.output import emit_block, emit_json_line
from jobdeck.errors import ValidationError
from jobdeck.model import LogEntry
from jobdeck.states import TERMINAL

if TYPE_CHECKING:
    from jobdeck.client import Client

LEVELS: Final = ("debug", "info", "warn", "error")
_PAGE: Final = 1_000
# Longest time between looks where no hint comes.
_LOOK: Final = 1.0


def checked_level(level: str | None) -> str:
    """The lowest level to show. Raises ValidationError."""
    if level is not None and level not in LEVELS:
        raise ValidationError(
            f"no level is called {level[:60]!r}; there are {', '.join(LEVELS)}", field="level"
        )
    return level or LEVELS[0]


class LogReader:
    """The log of one run on stdout."""

    def __init__(self, client: Client, run_id: UUID, *, lowest: str, as_json: bool) -> None:
        self._client = client
        self._run_id = run_id
        self._lowest = LEVELS.index(lowest)
        self._as_json = as_json
        self._last = 0

    async def print(self, *, tail: int | None, follow: bool) -> None:
        """The whole log or its last `tail` lines; with `follow` also what comes until the run ends."""
        if tail is not None:
            self._show(await self._client.runs.log_tail(self._run_id, limit=tail))
        elif not follow:
            await self._print_new()
        while follow:
            # Read before the log: what a run logged is stored by the time it has ended.
            run = await self._client.runs.show(self._run_id)
            await self._print_new()
            if run.status in TERMINAL:
                return
            await self._client.changed(_LOOK)

    async def _print_new(self) -> None:
        while entries := await self._client.runs.logs(self._run_id, after=self._last, limit=_PAGE):
            self._show(entries)

    def _show(self, entries: list[LogEntry]) -> None:
        for entry in entries:
            self._last = entry.id
            if entry.level in LEVELS and LEVELS.index(entry.level) < self._lowest:
                continue
            if self._as_json:
                emit_json_line(entry_json(entry))
            else:
                emit_block(entry_text(entry))
