"""Pruning, backups and restores by hand, with the settings of whoever asks.

They concern all teams: they are for admins of the installation, and acts in the audit of the team `default`. A database
of another schema than today's knows of no members yet, and asks for nobody.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from pathlib import Path

from jobdeck.audit import AuditOutcome
from jobdeck.bootstrap import open_database
from jobdeck.limits import DEFAULT_TEAM, TAG_CHARS
from jobdeck.model import Job, Run
from jobdeck.settings import Settings
from jobdeck.states import TERMINAL, Status
from jobdeck.store.audit.acts import Act, Done, Refused, store_done, store_refused
from jobdeck.store.database import Database
from jobdeck.store.house.backup import Backup, back_up
from jobdeck.store.house.pruning import PruneReport, keeps, prune_all
from jobdeck.store.house.restore import Restored, Wish, restore
from jobdeck.store.house.system_jobs import last_runs
from jobdeck.store.members import is_installation_admin, not_installation_admin
from jobdeck.store.open import revision_of
from jobdeck.store.scopes import find_team
from jobdeck.text import clean


async def prune(
    settings: Settings,
    *,
    statuses: Collection[Status] = (),
    older_than: timedelta | None = None,
    dry_run: bool = False,
) -> PruneReport:
    """Drop runs of all teams that have been kept long enough: as the settings say, or `older_than`.

    Without `statuses` all that end a run. Raises Forbidden, DatabaseError, WrongRevision.
    """
    chosen = statuses or TERMINAL
    keep = keeps(settings.retention.policy, chosen)
    if older_than is not None:
        keep = dict.fromkeys(sorted(chosen), older_than)
    async with open_database(settings) as database:
        await _check(database, settings, "db.prune")
        report = await prune_all(database, keep, dry_run=dry_run)
        if not dry_run:
            await _tell(database, settings, "db.prune", runs=report.runs)
        return report


async def own_jobs(settings: Settings) -> list[tuple[Job, Run | None]]:
    """The jobs by which jobdeck looks after the database, each with its last run where it had one."""
    async with open_database(settings) as database:
        return await database.read(lambda conn: last_runs(conn, database.now_of(conn)))


async def make_backup(settings: Settings, target: Path, *, overwrite: bool = False) -> Backup:
    """See `jobdeck.store.house.backup.back_up`. Raises Forbidden as well."""
    asks = await _check_whole(settings, "db.backup")
    made = await back_up(settings.resolved_database_url, target, overwrite=overwrite)
    if asks:
        async with open_database(settings) as database:
            await _tell(database, settings, "db.backup", runs=made.runs, bytes=made.size)
    return made


async def restore_backup(
    settings: Settings, source: Path, *, replace: bool = False, force: bool = False
) -> Restored:
    """See `jobdeck.store.house.restore.restore`. Raises Forbidden as well."""
    if settings.database_file is not None:
        settings.make_data_dir()
    await _check_whole(settings, "db.restore")
    wish = Wish(_actor(settings), replace=replace, force=force)
    done = await restore(settings.resolved_database_url, source, wish)
    async with open_database(settings) as database:
        await _tell(database, settings, "db.restore", epoch=done.epoch, runs=done.runs)
    return done


def _actor(settings: Settings) -> str:
    return clean(settings.resolved_actor, TAG_CHARS)


async def _act(database: Database, settings: Settings, action: str) -> Act:
    team = await database.read(find_team, DEFAULT_TEAM)
    return Act(None if team is None else team.id, _actor(settings), action)


async def _check(database: Database, settings: Settings, action: str) -> None:
    """Raises Forbidden, which the audit tells of, for whoever is no admin of the installation."""
    actor = _actor(settings)
    if await database.read(is_installation_admin, database.differences, actor):
        return
    refused = not_installation_admin(actor)
    act = await _act(database, settings, action)
    await database.write(store_refused, Refused(act, AuditOutcome.DENIED, refused.code))
    raise refused


async def _check_whole(settings: Settings, action: str) -> bool:
    """The same for what is about the database as a whole, which may not be there yet; whether there is an audit."""
    file = settings.database_file
    if file is not None and not file.exists():
        return False
    async with open_database(settings, any_revision=True) as database:
        if not (await revision_of(database)).ok:
            return False
        await _check(database, settings, action)
    return True


async def _tell(database: Database, settings: Settings, action: str, **after: int) -> None:
    await database.write(store_done, Done(await _act(database, settings, action), after))
