"""What may be wrong with an installation, each with the command or the step that mends it."""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from jobdeck.bootstrap import open_database, vault_of
from jobdeck.clock import from_us
from jobdeck.errors import JobdeckError
from jobdeck.plugins import load_plugins
from jobdeck.secret.file import SecretsFile
from jobdeck.settings import Settings
from jobdeck.states import GROUPS
from jobdeck.store import fleet
from jobdeck.store.database import Database
from jobdeck.store.house.system_jobs import last_runs
from jobdeck.store.open import revision_of
from jobdeck.store.sqlite import version as sqlite_version
from jobdeck.store.sqlite import wal

_SKEW_WARN: Final = 2.0
# A day without a worker, and the one after it.
_PRUNE_DAYS: Final = 3
_ENDED_BADLY: Final = GROUPS["failed"]
_NETWORK_FILE_SYSTEMS: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "afs"})


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer of one check."""

    name: str
    state: str
    """ok, warn or fail."""
    says: str
    mend: str | None = None


async def examine(settings: Settings) -> list[Finding]:
    """Every check, whatever the ones before it found. Never raises for what it looks at."""
    findings = [_plugins(settings), _secrets(settings)]
    if settings.database_file is not None:
        file = settings.database_file
        findings += [_sqlite_version(), _file_system(file), _modes(file), _wal(file)]
    try:
        async with open_database(settings, any_revision=True) as database:
            findings.append(Finding("database", "ok", f"{settings.shown_database_url} answers"))
            for check in (_revision, _hints, _clock, _workers, _house):
                findings.append(await _guarded(check, database))
    except JobdeckError as error:
        findings.append(Finding("database", "fail", error.message, "see database_url in the configuration"))
    return findings


async def _guarded(check: Callable[[Database], Awaitable[Finding]], database: Database) -> Finding:
    name = check.__name__.strip("_")
    try:
        return await check(database)
    except Exception as error:
        # Without a schema the later checks cannot be made; the one of the revision says what to do.
        return Finding(name, "fail", f"cannot be checked: {type(error).__name__}", "jobdeck db upgrade")


def _plugins(settings: Settings) -> Finding:
    try:
        found = load_plugins(settings.handlers)
    except JobdeckError as error:
        return Finding("plugins", "fail", error.message)
    if found.broken:
        first = found.broken[0]
        return Finding("plugins", "warn", f"{len(found.broken)} left out; {first.source}: {first.reason}")
    return Finding("plugins", "ok", f"{len(found.by_type)} job types: {', '.join(sorted(found.by_type))}")


def _secrets(settings: Settings) -> Finding:
    vault = vault_of(settings)
    for source, trouble in vault.troubles():
        state = "fail" if isinstance(source, SecretsFile) else "warn"
        return Finding("secrets", state, trouble.reason, trouble.mend)
    names = {each.name for each in vault.listed() if each.source}
    return Finding(
        "secrets", "ok", f"{len(names)} from {', '.join(source.label for source in vault.sources)}"
    )


def _sqlite_version() -> Finding:
    if found := sqlite_version.trouble():
        return Finding("sqlite", "warn", found, sqlite_version.ADVICE)
    return Finding("sqlite", "ok", sqlite3.sqlite_version)


def _wal(path: Path) -> Finding:
    if found := wal.trouble(path):
        return Finding("wal", "warn", found, wal.ADVICE)
    return Finding("wal", "ok", f"{wal.size_of(path):,} bytes of write-ahead log")


def _file_system(path: Path) -> Finding:
    kind = _kind_of_file_system(path)
    if kind in _NETWORK_FILE_SYSTEMS:
        return Finding(
            "disk", "fail", f"{path} is on {kind}: SQLite cannot lock there", "use a local disk or PostgreSQL"
        )
    return Finding("disk", "ok", f"{path.parent} is on {kind or 'a local file system'}")


def _kind_of_file_system(path: Path) -> str:
    folder = next((each for each in (path, *path.parents) if each.exists()), Path("/")).resolve()
    best, kind = "", ""
    try:
        mounts = Path("/proc/mounts").read_text().splitlines()
    except OSError:
        return ""
    for line in mounts:
        _, mount, name, *_ = line.split(" ")
        inside = mount == "/" or folder == Path(mount) or Path(mount) in folder.parents
        if inside and len(mount) > len(best):
            best, kind = mount, name
    return kind


def _modes(path: Path) -> Finding:
    if not path.exists():
        return Finding("files", "ok", f"{path} is made at the first start")
    facts, folder = path.stat(), path.parent.stat()
    if facts.st_uid != os.getuid():
        return Finding("files", "warn", f"{path} belongs to another user")
    if stat.S_IMODE(facts.st_mode) & 0o077:
        return Finding("files", "warn", f"{path} can be read by others", f"chmod 600 {path}*")
    if stat.S_IMODE(folder.st_mode) & 0o022:
        return Finding("files", "warn", f"{path.parent} can be written by others", f"chmod 700 {path.parent}")
    return Finding("files", "ok", f"{path} is private")


async def _revision(database: Database) -> Finding:
    found = await revision_of(database)
    if found.ok:
        return Finding("revision", "ok", found.head)
    return Finding(
        "revision", "fail", f"schema {found.current or 'none'}, needed {found.head}", "jobdeck db upgrade"
    )


async def _hints(database: Database) -> Finding:
    deafness = database.deafness
    if deafness is not None:
        return Finding("hints", "warn", deafness.says, deafness.mend)
    return Finding("hints", "ok", "commits of other processes are heard at once")


async def _clock(database: Database) -> Finding:
    before = time.time()
    theirs = await database.read(database.now_of) / 1_000_000
    ours = (before + time.time()) / 2
    skew = abs(theirs - ours)
    if skew > _SKEW_WARN:
        return Finding(
            "clock", "warn", f"this clock is {skew:.1f} s off the database's", "synchronise the clocks (NTP)"
        )
    return Finding("clock", "ok", f"{skew * 1000:.0f} ms off the database's")


async def _workers(database: Database) -> Finding:
    found = await database.read(lambda conn: fleet.list_workers(conn, database.now_of(conn)))
    live = [worker for worker in found if worker.state not in ("stopped", "lost")]
    lost = [worker for worker in found if worker.state == "lost"]
    if not live:
        return Finding("workers", "warn", "no worker is alive", "jobdeck runner")
    if lost:
        return Finding(
            "workers",
            "warn",
            f"{len(live)} alive, {len(lost)} lost",
            "jobdeck workers list",
        )
    return Finding("workers", "ok", f"{len(live)} alive")


async def _house(database: Database) -> Finding:
    found = await database.read(lambda conn: last_runs(conn, database.now_of(conn)))
    bad = [
        f"{job.slug} is {run.label}" for job, run in found if run is not None and run.status in _ENDED_BADLY
    ]
    if bad:
        return Finding("house", "warn", f"of jobdeck's own jobs {', '.join(bad)}", "jobdeck db jobs")
    pruned = next((run for job, run in found if job.slug == "prune" and run is not None), None)
    if pruned is None or pruned.finished_at is None:
        return Finding("house", "ok", "nothing has been pruned yet; workers do it once a day")
    days = (from_us(await database.read(database.now_of)) - pruned.finished_at) / timedelta(days=1)
    if days > _PRUNE_DAYS:
        return Finding("house", "warn", f"last pruned {days:.0f} days ago", "jobdeck db jobs")
    return Finding("house", "ok", f"last pruned {days * 24:.0f} hours ago")
