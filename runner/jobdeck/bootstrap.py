"""The composition root: the one place that knows store, engine, client and settings, and puts them together."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from jobdeck.client import Client
from jobdeck.client.guard import refuse_entry
from jobdeck.client.session import Session
from jobdeck.errors import ConfigError, DatabaseRefused, DatabaseUnavailable, NotFound
from jobdeck.ids import new_id
from jobdeck.limits import DEFAULT_PROJECT, DEFAULT_TEAM, SYSTEM_QUEUE
from jobdeck.model import Project, TeamScope
from jobdeck.people import PERMISSIONS, Permission, unknown_team
from jobdeck.plugins import load_one
from jobdeck.settings import Settings
from jobdeck.spec import HandlerSpec
from jobdeck.store import scopes
from jobdeck.store.arrival import Arrival
from jobdeck.store.database import Database
from jobdeck.store.open import database_of, require_head, revision_of, upgrade
from jobdeck.store.sqlite import version as sqlite_version
from jobdeck.store.sqlite.wal import watched

if TYPE_CHECKING:
    from jobdeck.client.errands import Errands
    from jobdeck.engine.worker import Worker, WorkerEnd
    from jobdeck.plugins import Plugins
    from jobdeck.secret.vault import Vault


_log = logging.getLogger("jobdeck.runner")
# Longer than SQLite's busy timeout, so that an orderly end is the rule.
_NOW_SECONDS = 10.0
# Seconds. A worker's three threads (engine, handlers, writer) hand over to each other all the time; with Python's own
# 5 ms, one that has just been woken waits for the busy one that long. Measured: a fifth more runs per second.
_SWITCH_INTERVAL = 0.0005
# New objects in containers, about a hundred runs' worth; Python's own 700 are a dozen.
_GARBAGE_FROM = 5_000


@dataclass(frozen=True, slots=True)
class DatabaseStatus:
    """What `jobdeck db status` shows."""

    current: str | None
    head: str
    dialect: str
    url_shown: str
    ok: bool


@asynccontextmanager
async def open_database(settings: Settings, *, any_revision: bool = False) -> AsyncIterator[Database]:
    """The database of these settings, open. The embedded one is made and upgraded here; a server's never is.

    Raises DatabaseUnavailable, WrongRevision, ConfigError.
    """
    url = settings.resolved_database_url
    database = database_of(
        url,
        pool_size=settings.database.pool_size,
        busy_timeout=settings.database.busy_timeout.total_seconds(),
        command_timeout=settings.database.command_timeout.total_seconds(),
    )
    if settings.database_file is not None:
        settings.make_data_dir()
    await database.open()
    try:
        if not any_revision:
            await _ready(settings, database)
        yield database
    finally:
        await database.close()


async def _ready(settings: Settings, database: Database) -> None:
    found = await revision_of(database)
    upgrades_itself = settings.is_embedded and (found.current is None or found.current < found.head)
    if not found.ok and upgrades_itself:
        await upgrade(settings.resolved_database_url)
    await require_head(database)


@asynccontextmanager
async def open_client(settings: Settings) -> AsyncIterator[Client]:
    """A client for the team, project and actor of these settings. Raises NotFound where they do not exist."""
    async with open_database(settings) as database:
        session = await make_session(database, settings)
        client = Client(session)
        try:
            yield client
        finally:
            client.close()


async def make_session(database: Database, settings: Settings) -> Session:
    """Resolve team and project for somebody; the ones named `default` are made where they are missing.

    Raises NotFound where they do not exist, and where the team is not theirs: nothing tells them which it is.
    """
    scope = await _scope(database, settings)
    session = Session(
        database,
        scope,
        None,
        settings.resolved_actor,
        _local_specs(tuple(settings.handlers)),
        own_approvals=settings.approvals.own,
        http_allow=tuple(settings.http.allow),
    )
    role = await session.guard.role(session)
    if role is None:
        # Whether there is a team `default` is no secret, and by it strangers find the teams that are theirs.
        if scope.slug != DEFAULT_TEAM:
            await refuse_entry(session)
        return session
    may_make = Permission.JOBS_WRITE in PERMISSIONS[role]
    return replace(session, project=await _project(database, scope, settings.project, may_make=may_make))


async def make_defaults(database: Database, settings: Settings) -> None:
    """Make team and project as a worker needs them, whoever runs it. Raises NotFound."""
    await _project(database, await _scope(database, settings), settings.project, may_make=True)


async def _scope(database: Database, settings: Settings) -> TeamScope:
    team = await database.read(scopes.find_team, settings.team)
    if team is None and settings.team == DEFAULT_TEAM:
        new = scopes.NewTeam(new_id(), DEFAULT_TEAM, "Default", existing_ok=True)
        team = await database.write(scopes.create_team, new)
    if team is None:
        raise unknown_team(settings.team)
    return TeamScope(team.id, team.slug)


async def make_scope(settings: Settings) -> None:
    """Make the team and project of these settings where they are missing, whatever their names."""
    async with open_database(settings) as database:
        new_team = scopes.NewTeam(new_id(), settings.team, settings.team.capitalize(), existing_ok=True)
        team = await database.write(scopes.create_team, new_team)
        if settings.project:
            name = settings.project.capitalize()
            new = scopes.NewProject(new_id(), team.id, settings.project, name, existing_ok=True)
            await database.write(scopes.create_project, new)


async def _project(database: Database, scope: TeamScope, slug: str, *, may_make: bool) -> Project | None:
    if not slug:
        return None
    project = await database.read(scopes.find_project, scope.team_id, slug)
    if project is None and slug == DEFAULT_PROJECT:
        if not may_make:
            return None
        new = scopes.NewProject(new_id(), scope.team_id, DEFAULT_PROJECT, "Default", existing_ok=True)
        project = await database.write(scopes.create_project, new)
    if project is None:
        raise NotFound(f"no project {slug!r} in this team; make it with: jobdeck projects create {slug}")
    return project


def _local_specs(modules: tuple[str, ...]) -> Callable[[str], HandlerSpec | None]:
    @cache
    def find(job_type: str) -> HandlerSpec | None:
        try:
            plugin = load_one(job_type, modules)
        except Exception:
            # A broken package beside the client is the worker's problem; its registered row is used instead.
            return None
        return plugin.spec if plugin else None

    return find


async def database_status(settings: Settings) -> DatabaseStatus:
    """Revision of the database, whatever it is. Raises DatabaseUnavailable."""
    async with open_database(settings, any_revision=True) as database:
        found = await revision_of(database)
        return DatabaseStatus(
            found.current, found.head, database.differences.name, settings.shown_database_url, found.ok
        )


async def upgrade_database(settings: Settings) -> DatabaseStatus:
    """Bring the database to this jobdeck's revision."""
    if settings.database_file is not None:
        settings.make_data_dir()
    await upgrade(settings.resolved_database_url)
    return await database_status(settings)


async def run_worker(
    settings: Settings, *, drain: bool = False, on_start: Callable[[Worker, Plugins], None] | None = None
) -> WorkerEnd:
    """Run a worker until SIGTERM, SIGINT or, with `drain`, until nothing is left to do.

    A database that cannot be reached is waited for. Raises DatabaseRefused, WrongRevision, ConfigError.
    """
    from jobdeck.engine.worker import WorkerEnd

    plugins = worker_plugins(settings)
    _check_secrets(settings)
    _warn_of_sqlite(settings)
    stop = _Stop()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    arrival = Arrival(stop.asked)
    while True:
        try:
            async with _worker(settings, plugins, drain=drain) as worker:
                arrival.arrived()
                _tune_interpreter()
                stop.takes(worker)
                if on_start is not None:
                    on_start(worker, plugins)
                return await worker.run()
        except DatabaseUnavailable as error:
            if not await arrival.look_again(error):
                return WorkerEnd.STOPPED


def _tune_interpreter() -> None:
    sys.setswitchinterval(_SWITCH_INTERVAL)
    # What is imported stays: to look through it again and again for garbage stops all threads for 60 ms each time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GARBAGE_FROM)


@asynccontextmanager
async def _worker(settings: Settings, plugins: Plugins, *, drain: bool) -> AsyncIterator[Worker]:
    from jobdeck.engine.worker import Worker

    async with open_database(settings) as database, watched(settings.database_file):
        await make_defaults(database, settings)
        _warn_if_deaf(database)
        plugins = await _with_own_jobs(settings, database, plugins)
        yield Worker(_parts(settings, database, plugins), _options(settings, drain))


async def _with_own_jobs(settings: Settings, database: Database, plugins: Plugins) -> Plugins:
    """The handlers by which jobdeck keeps its own house too; their jobs are made where they are missing."""
    from jobdeck.engine.system_types import House
    from jobdeck.store.house.system_jobs import keep_system_jobs

    url, keep = settings.resolved_database_url, settings.retention.policy
    house = House(database, url, keep, asyncio.get_running_loop())
    await database.write(keep_system_jobs, house.jobs())
    return replace(plugins, by_type=plugins.by_type | house.plugins())


def _warn_if_deaf(database: Database) -> None:
    deafness = database.deafness
    if deafness is not None:
        _log.warning("%s; %s", deafness.says, deafness.mend)


async def check_worker(settings: Settings) -> None:
    """Raise what would keep `run_worker` from starting with these settings.

    ConfigError, DatabaseRefused, WrongRevision, NotFound. A database that cannot be reached now is waited for by a
    worker, and is only warned of here.
    """
    worker_plugins(settings)
    _check_secrets(settings)
    try:
        async with open_database(settings) as database:
            await make_defaults(database, settings)
    except DatabaseRefused:
        raise
    except DatabaseUnavailable as error:
        _log.warning("%s; a worker would wait for it", error)


def worker_plugins(settings: Settings) -> Plugins:
    """The handlers that a worker with these settings takes. Raises ConfigError where it would have none."""
    from jobdeck.plugins import for_worker, load_plugins

    installed = load_plugins(settings.handlers)
    runner = settings.runner
    if not settings.commands_enabled:
        installed.by_type.pop("command", None)
        if "command" in runner.types:
            raise ConfigError("on a server's database commands are off; set enabled = true under [command]")
    if not installed.by_type:
        raise ConfigError("no handler is installed: a worker without job types has nothing to do")
    taken = for_worker(installed, runner.types, runner.labels)
    if not taken.by_type:
        raise ConfigError("every handler installed here is for workers with labels; start it with --label")
    return taken


def vault_of(settings: Settings) -> Vault:
    """The secrets of a worker with these settings."""
    from jobdeck.secret.vault import open_vault

    return open_vault(settings.secrets_file, settings.secrets.teams, open_to_all=settings.is_embedded)


def _check_secrets(settings: Settings) -> None:
    """Refuse a file of secrets that cannot be read; a stranger's provider that cannot be asked is only warned of."""
    from jobdeck.secret.file import SecretsFile

    for source, trouble in vault_of(settings).troubles():
        if isinstance(source, SecretsFile):
            raise ConfigError(f"{trouble.reason}. Run: {trouble.mend}" if trouble.mend else trouble.reason)
        _log.warning("%s", trouble.reason)


def _warn_of_sqlite(settings: Settings) -> None:
    if settings.database_file is not None and (found := sqlite_version.trouble()):
        _log.warning("SQLite %s: %s", found, sqlite_version.ADVICE)


class _Stop:
    """What a signal does: stop in order; a second one now, whatever still waits for a silent database."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self._times = 0
        self._worker: Worker | None = None

    def takes(self, worker: Worker) -> None:
        """The worker that is to be stopped; none while the database is waited for."""
        self._worker = worker
        if self.asked.is_set():
            worker.stop()

    def __call__(self) -> None:
        self._times += 1
        self.asked.set()
        if self._worker is not None:
            self._worker.stop()
        if self._times == 2:
            last_resort = threading.Timer(_NOW_SECONDS, os._exit, (1,))
            last_resort.daemon = True
            last_resort.start()


def _options(settings: Settings, drain: bool) -> Any:
    from jobdeck.engine.worker import WorkerOptions

    runner = settings.runner
    return WorkerOptions(
        # Who is for some queues only keeps the house all the same.
        queues=(*runner.queues, SYSTEM_QUEUE) if runner.queues else (),
        labels=tuple(runner.labels),
        concurrency=runner.concurrency,
        lease=runner.lease.total_seconds(),
        poll=runner.poll.total_seconds(),
        cancel_notice=runner.cancel_notice.total_seconds(),
        report_every=runner.progress_interval.total_seconds(),
        shutdown_grace=runner.shutdown_grace.total_seconds(),
        drain=drain,
    )


def _parts(settings: Settings, database: Database, plugins: Plugins) -> Any:
    from jobdeck.engine.worker import WorkerParts
    from jobdeck.net import AddressPolicy, GuardedClient
    from jobdeck.settings.for_handlers import settings_finder
    from jobdeck.settings.for_senders import senders_of

    errands = _errands(settings, database, plugins)
    vault = vault_of(settings)
    vault.mask_all()
    return WorkerParts(
        database=database,
        plugins=plugins,
        http=lambda: GuardedClient(AddressPolicy(settings.http.allow), per_host=settings.http.per_host),
        enqueue_child=errands.enqueue_child,
        plan_fire=errands.plan_fire,
        settings_for=settings_finder(settings, plugins, vault),
        secrets=vault.for_team,
        senders=senders_of(settings, vault),
    )


def _errands(settings: Settings, database: Database, plugins: Plugins) -> Errands:
    from jobdeck.client.errands import Errands

    installed = plugins.installed

    def spec_of(job_type: str) -> HandlerSpec | None:
        plugin = installed.get(job_type)
        return plugin.spec if plugin else None

    allowed = tuple(settings.http.allow)
    return Errands(database, settings.resolved_actor, spec_of, http_allow=allowed)
