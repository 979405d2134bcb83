"""A team with its client on a database, and workers made from handlers that a test declares."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import Connection

from jobdeck.client import Client
from jobdeck.client.errands import Errands
from jobdeck.client.session import Session
from jobdeck.clock import Clock, SystemClock
from jobdeck.delivery import MakeSender
from jobdeck.engine.worker import EnqueueChild, Worker, WorkerEnd, WorkerOptions, WorkerParts
from jobdeck.ids import new_id
from jobdeck.model import LogEntry, Run, TeamScope
from jobdeck.net import AddressPolicy, GuardedClient
from jobdeck.plugins import Plugin, Plugins
from jobdeck.secret import Lookup, from_environment
from jobdeck.spec import HandlerSpec
from jobdeck.states import Status
from jobdeck.store import scopes
from jobdeck.store.claim import ClaimedRun
from jobdeck.store.database import Database
from jobdeck.store.schema import runs
from jobdeck.store.transaction import Hint
from tests.engine.gate import PATIENCE
from tests.store.deck import execute_statement

T = TypeVar("T")

# Short, so that a test sees many beats and polls; whatever must not depend on them is driven by events.
QUICK = WorkerOptions(concurrency=4, lease=30.0, poll=0.5, report_every=0.05, shutdown_grace=0.1)


@dataclass
class Bench:
    """`trigger` runs of handlers, let `working()` workers run them, and look at what became of them."""

    database: Database
    client: Client
    known: dict[str, HandlerSpec]

    def offer(self, *specs: HandlerSpec) -> None:
        """Make job types known to the client, as an installed package would."""
        self.known.update({spec.job_type: spec for spec in specs})

    def worker(self, *specs: HandlerSpec, parts: Mapping[str, Any] | None = None, **options: Any) -> Worker:
        """A worker that knows these handlers; `options` are those of `WorkerOptions`, quick ones by default."""
        self.offer(*specs)
        given: dict[str, Any] = {"database": self.database, "plugins": plugins_of(*specs)} | dict(parts or {})
        return Worker(_parts(**given), _options(options))

    @asynccontextmanager
    async def working(
        self, *specs: HandlerSpec, parts: Mapping[str, Any] | None = None, **options: Any
    ) -> AsyncIterator[Worker]:
        """A worker at work; in the end it is stopped at once."""
        worker = self.worker(*specs, parts=parts, **options)
        task = asyncio.create_task(worker.run())
        try:
            await started(worker, task)
            yield worker
        finally:
            worker.stop()
            worker.stop()
            await task

    async def trigger(
        self, spec: HandlerSpec, params: Mapping[str, Any] | None = None, **options: Any
    ) -> UUID:
        """One run; its id."""
        self.offer(spec)
        return await self.client.runs.enqueue(spec.job_type, params, **options)

    def skip(self, seconds: float) -> None:
        """Move the database's clock, and have the workers look for what has become due."""
        self.database.offset_us += int(seconds * 1_000_000)
        self.database.signals.publish(Hint.WORK)

    async def run(self, run_id: UUID) -> Run:
        return await self.client.runs.show(run_id)

    async def logs(self, run_id: UUID) -> list[LogEntry]:
        return await self.client.runs.logs(run_id)

    async def until(self, run_id: UUID, holds: Callable[[Run], object]) -> Run:
        """The run, as soon as `holds(run)`."""

        async def look() -> Run | None:
            run = await self.run(run_id)
            return run if holds(run) else None

        return await self.eventually(look)

    async def ended(self, run_id: UUID) -> Run:
        """The run, as soon as it has ended."""
        return await self.until(run_id, lambda run: run.finished_at is not None)

    async def outcome(
        self, spec: HandlerSpec, params: Mapping[str, Any] | None = None, **options: Any
    ) -> Run:
        """Trigger a run and let a worker work until it has ended."""
        run_id = await self.trigger(spec, params, **options)
        async with self.working(*self.known.values()):
            return await self.ended(run_id)

    async def eventually(self, look: Callable[[], Awaitable[T | None]]) -> T:
        """The first answer of `look()` that is true; it is asked after every change of the database."""
        changed = asyncio.Event()
        loop = asyncio.get_running_loop()

        def hear(_hint: Hint) -> None:
            loop.call_soon_threadsafe(changed.set)

        unlisten = self.database.signals.listen(hear)
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    if found := await look():
                        return found
                    # What a commit does not announce (a beat, say) is found by looking again.
                    with suppress(TimeoutError):
                        await asyncio.wait_for(changed.wait(), 0.05)
                    changed.clear()
        finally:
            unlisten()

    async def statuses(self) -> dict[str, int]:
        """How many runs have each status that occurs."""
        return {status: count for status, count in (await self.client.runs.counts()).items() if count}

    async def set_run(self, run_id: UUID, **values: Any) -> None:
        """Store values that no verb brings about, as somebody with the database's password can."""
        statement = runs.update().where(runs.c.id == run_id).values(values)
        await self.database.write(execute_statement, statement)

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Run a query of the test itself."""
        return await self.database.read(query)


async def bench_on(database: Database, known: dict[str, HandlerSpec] | None = None) -> Bench:
    """A bench for the team `acme` and its project `site`."""
    team = await database.write(
        scopes.create_team, scopes.NewTeam(new_id(), "acme", "Acme", existing_ok=True)
    )
    project = await database.write(
        scopes.create_project, scopes.NewProject(new_id(), team.id, "site", "Site", existing_ok=True)
    )
    known = {} if known is None else known
    scope = TeamScope(team.id, team.slug)
    session = Session(database, scope, project, "ann", known.get, http_allow=("127.0.0.1/32",))
    return Bench(database, Client(session), known)


async def started(worker: Worker, task: asyncio.Task[WorkerEnd]) -> None:
    """Wait until the worker works; raises what kept it from starting."""
    ready = asyncio.create_task(worker.started.wait())
    await asyncio.wait({ready, task}, return_when=asyncio.FIRST_COMPLETED, timeout=PATIENCE)
    ready.cancel()
    if task.done():
        task.result()


def plugins_of(*specs: HandlerSpec) -> Plugins:
    """The handlers as if a package `tests` had brought them."""
    found = Plugins()
    for spec in specs:
        found.add(Plugin(spec, "tests", "1.0", spec.reference))
    return found


def outcomes(run: Run) -> list[str | None]:
    """How the attempts of a run ended, in order."""
    return [attempt.outcome for attempt in run.attempts]


def is_running(run: Run) -> bool:
    return run.status is Status.RUNNING


# Made once: to read all certificates takes longer than the rest of a worker's start.
_TLS = ssl.create_default_context()


def _client() -> GuardedClient:
    return GuardedClient(AddressPolicy(()), ssl_context=_TLS)


async def _no_children(
    _run: ClaimedRun, job_type: str, _params: Mapping[str, Any], _options: Mapping[str, Any]
) -> UUID:
    raise AssertionError(f"this test makes no child runs, but {job_type} was asked for")


def _parts(
    *,
    database: Database,
    plugins: Plugins,
    clock: Clock | None = None,
    http: Callable[[], GuardedClient] = _client,
    enqueue_child: EnqueueChild = _no_children,
    settings_for: Callable[[ClaimedRun], Mapping[str, Any]] = lambda _run: {},
    secrets: Callable[[str], Lookup] = lambda _team: from_environment,
    senders: Mapping[str, MakeSender] | None = None,
) -> WorkerParts:
    specs = {name: plugin.spec for name, plugin in plugins.installed.items()}
    errands = Errands(database, "worker", specs.get)
    parts = (database, plugins, http, enqueue_child, settings_for, clock or SystemClock())
    return WorkerParts(*parts, secrets=secrets, plan_fire=errands.plan_fire, senders=senders or {})


def _options(given: Mapping[str, Any]) -> WorkerOptions:
    names = {name: getattr(QUICK, name) for name in QUICK.__dataclass_fields__}
    return WorkerOptions(**(names | dict(given)))
