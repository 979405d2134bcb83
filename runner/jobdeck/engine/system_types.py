"""The job types by which jobdeck keeps its own house. Every worker has them; they run on their schedules alone."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from jobdeck.context import Context
from jobdeck.durations import format_duration
from jobdeck.limits import HOUSE_TYPES
from jobdeck.plugins import Plugin
from jobdeck.retention import Retention
from jobdeck.spec import HandlerSpec, handler
from jobdeck.store.database import Database
from jobdeck.store.house.maintenance import checkpoint, renew_statistics
from jobdeck.store.house.pruning import PruneReport, keeps, prune_all, prune_operations
from jobdeck.store.house.system_jobs import SystemJob

T = TypeVar("T")

_CATEGORY: Final = "system"
# At night in Europe, at lunch in Asia: a quiet time for few is better than a busy one for all. One after the other, and
# not on the hour, when the schedules of everybody fire.
_PRUNE: Final = SystemJob("prune", HOUSE_TYPES[0], "Drop what has been kept long enough", "11 3 * * *")
_CHECKPOINT: Final = SystemJob("checkpoint", HOUSE_TYPES[1], "Cut back the log", "41 3 * * *")
_STATISTICS: Final = SystemJob("statistics", HOUSE_TYPES[2], "Measure and count", "51 3 * * *")


@dataclass(frozen=True, slots=True)
class House:
    """What the handlers work on; made by the composition root, on the loop on which the database is open."""

    database: Database
    url: str
    retention: Retention
    loop: asyncio.AbstractEventLoop

    def jobs(self) -> list[SystemJob]:
        """Those that this database needs."""
        on_file = self.database.differences.name == "sqlite"
        return [_PRUNE, *([_CHECKPOINT] if on_file else []), _STATISTICS]

    def plugins(self) -> dict[str, Plugin]:
        """The handlers of all of them, by job type."""
        specs = [self._prune(), self._checkpoint(), self._statistics()]
        return {spec.job_type: _plugin(spec) for spec in specs}

    async def ask(self, question: Coroutine[Any, Any, T]) -> T:
        """From the handlers' loop, where the database cannot be awaited."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(question, self.loop))

    def _prune(self) -> HandlerSpec:
        @handler(_PRUNE.job_type, title=_PRUNE.name, category=_CATEGORY, scope="system")
        async def prune(ctx: Context) -> Mapping[str, Any]:
            """Drop runs of all teams that have been kept as long as [retention] says, and what nobody looks at."""

            def heard(so_far: PruneReport) -> None:
                ctx.raise_if_cancelled()
                ctx.progress(processed=so_far.runs)

            report = await self.ask(prune_all(self.database, keeps(self.retention), each=heard))
            kept_for = {str(s): format_duration(each.keep) for s, each in report.by_status.items()}
            dropped = {str(s): each.runs for s, each in report.by_status.items()}
            forgotten = await self.ask(prune_operations(self.database))
            return {
                "dropped": dropped,
                "kept_for": kept_for,
                "kept": report.kept,
                "bulk_operations": forgotten,
            }

        return prune

    def _checkpoint(self) -> HandlerSpec:
        @handler(_CHECKPOINT.job_type, title=_CHECKPOINT.name, category=_CATEGORY, scope="system")
        async def cut_back(ctx: Context) -> Mapping[str, Any]:
            """Write SQLite's write-ahead log into the file and give its room back."""
            return await checkpoint(self.url)

        return cut_back

    def _statistics(self) -> HandlerSpec:
        @handler(_STATISTICS.job_type, title=_STATISTICS.name, category=_CATEGORY, scope="system")
        async def measure(ctx: Context) -> Mapping[str, Any]:
            """Renew what a server's planner knows of its tables; see that runs are counted right."""
            return await self.ask(renew_statistics(self.database, self.url))

        return measure


def _plugin(spec: HandlerSpec) -> Plugin:
    from jobdeck import __version__

    return Plugin(spec, "jobdeck", __version__, spec.reference)
