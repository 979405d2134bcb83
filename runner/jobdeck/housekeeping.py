"""Pruning, backups and restores by hand, with the settings of whoever asks."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from pathlib import Path

from jobdeck.bootstrap import open_database
from jobdeck.model import Job, Run
from jobdeck.settings import Settings
from jobdeck.states import TERMINAL, Status
from jobdeck.store.backup import Backup, back_up
from jobdeck.store.pruning import PruneReport, keeps, prune_all
from jobdeck.store.restore import Restored, Wish, restore
from jobdeck.store.system_jobs import last_runs
from jobdeck.text import clean


async def prune(
    settings: Settings,
    *,
    statuses: Collection[Status] = (),
    older_than: timedelta | None = None,
    dry_run: bool = False,
) -> PruneReport:
    """Drop runs of all teams that have been kept long enough: as the settings say, or `older_than`.

    Without `statuses` all that end a run. Raises DatabaseError, WrongRevision.
    """
    chosen = statuses or TERMINAL
    keep = keeps(settings.retention.policy, chosen)
    if older_than is not None:
        keep = dict.fromkeys(sorted(chosen), older_than)
    async with open_database(settings) as database:
        return await prune_all(database, keep, dry_run=dry_run)


async def own_jobs(settings: Settings) -> list[tuple[Job, Run | None]]:
    """The jobs by which jobdeck looks after the database, each with its last run where it had one."""
    async with open_database(settings) as database:
        return await database.read(lambda conn: last_runs(conn, database.now_of(conn)))


async def make_backup(settings: Settings, target: Path, *, overwrite: bool = False) -> Backup:
    """See `jobdeck.store.backup.back_up`."""
    return await back_up(settings.resolved_database_url, target, overwrite=overwrite)


async def restore_backup(
    settings: Settings, source: Path, *, replace: bool = False, force: bool = False
) -> Restored:
    """See `jobdeck.store.restore.restore`."""
    if settings.database_file is not None:
        settings.make_data_dir()
    by = clean(settings.resolved_actor)
    return await restore(settings.resolved_database_url, source, Wish(by, replace=replace, force=force))
