"""New runs on their way into the database: whoever asked for them learns of each whether it is stored."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from jobdeck.errors import DatabaseError, JobdeckError, OutcomeUnknown, PartlyRefused, PartlyStored
from jobdeck.ids import show_id
from jobdeck.model import NewRun
from jobdeck.store.database import Database
from jobdeck.store.enqueue import enqueue

Result = UUID | JobdeckError


async def store_all(database: Database, runs: Sequence[NewRun]) -> list[UUID]:
    """Their ids. Where the database fails for a part of them, that part is tried once more.

    Raises OutcomeUnknown, PartlyStored and PartlyRefused, which carry ids; otherwise what kept the first one out, and
    none is stored then.
    """
    results = await store_each(database, runs)
    stored = [result for result in results.values() if isinstance(result, UUID)]
    for error in results.values():
        if isinstance(error, JobdeckError):
            raise _told(error, results, stored)
    return stored


async def store_each(database: Database, runs: Sequence[NewRun]) -> dict[UUID, Result]:
    """What became of each run, by the id it was made with; tried once more where the database failed for a part."""
    results = await _store(database, runs)
    left = [run for run in runs if _was_refused(results[run.id])]
    if left and len(left) < len(runs):
        results |= await _store(database, left)
    return results


async def _store(database: Database, runs: Sequence[NewRun]) -> dict[UUID, Result]:
    try:
        results = await database.write_many(enqueue, runs)
    except DatabaseError as error:
        results = [error] * len(runs)
    return {run.id: result for run, result in zip(runs, results, strict=True)}


def _was_refused(result: Result) -> bool:
    """Whether the database failed and has certainly stored nothing."""
    return isinstance(result, DatabaseError) and not isinstance(result, OutcomeUnknown)


def _told(first: JobdeckError, results: dict[UUID, Result], stored: Sequence[UUID]) -> JobdeckError:
    unknown = [show_id("run", key) for key, result in results.items() if isinstance(result, OutcomeUnknown)]
    if unknown:
        shown = unknown[0] if len(unknown) == 1 else f"{unknown[0]} and {len(unknown) - 1} more"
        return OutcomeUnknown(
            f"the connection to the database broke, and nobody knows whether this is stored: look for {shown}",
            run_ids=unknown,
        )
    if not stored:
        return first
    kind = PartlyStored if isinstance(first, DatabaseError) else PartlyRefused
    return kind(
        f"{len(stored)} of {len(results)} runs are stored, the others are not: {first}",
        run_ids=[show_id("run", run_id) for run_id in stored],
    )
