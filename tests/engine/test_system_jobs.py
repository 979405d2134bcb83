"""jobdeck keeps its own house: jobs of system types, on their schedules alone, in no list of a team."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from jobdeck import Context, handler
from jobdeck.bootstrap import make_scope, open_client, open_database, run_worker
from jobdeck.client.errands import Errands
from jobdeck.engine.system_types import House
from jobdeck.engine.worker import Worker, WorkerEnd
from jobdeck.errors import Forbidden, JobdeckError, ValidationError
from jobdeck.housekeeping import own_jobs
from jobdeck.model import Job, Run, RunFilter
from jobdeck.plugins import Plugins
from jobdeck.retention import Retention
from jobdeck.settings import Settings
from jobdeck.settings.model import RetentionSettings, RunnerSettings
from jobdeck.states import Status
from jobdeck.store import changes
from jobdeck.store.house import prune as pruner
from jobdeck.store.house.maintenance import checkpoint
from jobdeck.store.house.system_jobs import keep_system_jobs, last_runs
from jobdeck.store.schema import run_counts
from tests.engine.bench import Bench
from tests.store.deck import execute_statement

DAY = 86_400.0
SQLITE_JOBS = ["checkpoint", "prune", "statistics"]


@pytest.fixture
def house(bench: Bench, database_url: str) -> Callable[[], House]:
    """The house of the bench's database; to be asked for on its loop."""
    return lambda: House(bench.database, database_url, Retention(), asyncio.get_running_loop())


@asynccontextmanager
async def keeping(bench: Bench, house: House, **options: Any) -> AsyncIterator[Worker]:
    """A worker with nothing but the house to keep; its jobs are there."""
    await bench.database.write(keep_system_jobs, house.jobs())
    parts = {"plugins": Plugins(by_type=house.plugins())}
    async with bench.working(parts=parts, **options) as worker:
        yield worker


async def jobs_of(bench: Bench) -> dict[str, tuple[Job, Run | None]]:
    """The jobs, each with its last run."""
    database = bench.database
    found = await database.read(lambda conn: last_runs(conn, database.now_of(conn)))
    return {job.slug: (job, run) for job, run in found}


async def all_ended(bench: Bench) -> dict[str, Run]:
    """The last run of each job, as soon as all have ended."""

    async def look() -> dict[str, Run] | None:
        last = {slug: run for slug, (_, run) in (await jobs_of(bench)).items()}
        ended = {slug: run for slug, run in last.items() if run is not None and run.finished_at is not None}
        return ended if len(ended) == len(last) else None

    return await bench.eventually(look)


async def test_they_run_when_their_time_comes(bench: Bench, house: Callable[[], House]) -> None:
    """Each once, with a result; what has been kept long enough is gone then, and no list or count shows them."""

    @handler("fine")
    async def fine(ctx: Context) -> None:
        return

    old = await bench.trigger(fine)
    async with bench.working(fine):
        await bench.ended(old)
    bench.skip(15 * DAY)
    async with keeping(bench, house()):
        bench.skip(DAY)
        last = await all_ended(bench)
    on_file = bench.database.differences.name == "sqlite"
    assert sorted(last) == [slug for slug in SQLITE_JOBS if on_file or slug != "checkpoint"]
    assert {(run.status, run.queue, run.trigger_type) for run in last.values()} == {
        (Status.COMPLETED, "system", "scheduled")
    }
    assert last["prune"].result["dropped"]["completed"] == 1
    assert last["prune"].result["kept_for"]["failed"] == "90d"
    assert last["prune"].result["bulk_operations"] == 0
    assert last["statistics"].result == {"counters_mended": 0}
    assert (await bench.client.runs.find(RunFilter())).runs == ()
    assert await bench.statuses() == {}
    assert {slug: run.id for slug, run in (await all_ended(bench)).items()} == {
        slug: run.id for slug, run in last.items()
    }


async def test_whoever_works_keeps_the_house(bench: Bench, house: Callable[[], House]) -> None:
    """A worker for one queue too, where the composition root has it serve the queue of the house."""
    async with keeping(bench, house(), queues=("mail", "system")):
        bench.skip(DAY)
        assert all(run.status is Status.COMPLETED for run in (await all_ended(bench)).values())


async def test_a_counter_that_is_off_is_put_right(bench: Bench, house: Callable[[], House]) -> None:
    """Too high or missing altogether, while runs come and go."""

    @handler("fine")
    async def fine(ctx: Context) -> None:
        return

    run_id = await bench.trigger(fine)
    await bench.trigger(fine)
    async with bench.working(fine):
        await bench.ended(run_id)
        await bench.until(run_id, lambda run: run.finished_at)
    await bench.eventually(lambda: _is(bench, {"completed": 2}))
    spoil: Any = update(run_counts).where(run_counts.c.status == "completed").values(runs=7)
    await bench.database.write(execute_statement, spoil)
    await bench.trigger(fine)
    async with keeping(bench, house()):
        bench.skip(DAY)
        assert (await all_ended(bench))["statistics"].result == {"counters_mended": 1}
    assert await bench.statuses() == {"completed": 2, "pending": 1}


async def _is(bench: Bench, wanted: dict[str, int]) -> bool:
    return await bench.statuses() == wanted


async def test_nobody_starts_them_by_hand(bench: Bench, house: Callable[[], House]) -> None:
    """No trigger, no trigger of their job, no job of one's own, no child run: exit code 6."""
    made = house()
    bench.offer(*(plugin.spec for plugin in made.plugins().values()))
    await bench.database.write(keep_system_jobs, made.jobs())
    job, _ = (await jobs_of(bench))["prune"]
    runs, jobs = bench.client.runs, bench.client.jobs
    asks: list[Callable[[], Awaitable[Any]]] = [
        lambda: runs.trigger("system.prune"),
        lambda: runs.trigger_many("system.prune", [{}]),
        lambda: jobs.create("mine", {"type": "system.prune"}),
        lambda: jobs.create("mine", {"type": "system.prune", "schedule": {"cron": "* * * * *"}}),
    ]
    for ask in asks:
        with pytest.raises(Forbidden, match="runs on its own schedule only") as caught:
            await ask()
        assert caught.value.exit_code == 6
    assert job.facts["type"] == "system.prune"

    @handler("sneaky", max_attempts=1)
    async def sneaky(ctx: Context) -> str:
        try:
            await ctx.enqueue("system.prune")
        except JobdeckError as error:
            return error.code
        return "made"

    errands = _children_of(bench)
    run = await bench.trigger(sneaky)
    async with bench.working(sneaky, parts={"enqueue_child": errands}):
        assert (await bench.ended(run)).result == "forbidden"


def _children_of(bench: Bench) -> Any:
    return Errands(bench.database, "worker", bench.known.get).enqueue_child


async def test_they_are_brought_up_to_date(bench: Bench, house: Callable[[], House]) -> None:
    """A newer jobdeck changes their schedule; one that was disabled stays so; nothing else makes a version."""
    made = house()
    before = made.jobs()
    for _ in range(2):
        await bench.database.write(keep_system_jobs, before)
    first = await jobs_of(bench)
    assert {job.version for job, _ in first.values()} == {1}
    await bench.database.write(keep_system_jobs, [replace(job, cron="5 4 * * *") for job in before])
    second = await jobs_of(bench)
    for slug, (job, _) in second.items():
        assert (job.version, job.id, job.enabled) == (2, first[slug][0].id, True)
        assert job.next_fire_at is not None
        assert (job.next_fire_at.hour, job.next_fire_at.minute) == (4, 5)


async def test_many_workers_start_at_once(bench: Bench, house: Callable[[], House]) -> None:
    """All of them want the jobs to be there, and they are there once."""
    wanted = house().jobs()
    results = await bench.database.write_many(keep_system_jobs, [wanted] * 8)
    assert results == [None] * 8
    assert len(await jobs_of(bench)) == len(wanted)


async def test_a_cancelled_prune_stops(
    bench: Bench, house: Callable[[], House], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It notices between two batches; what it has dropped stays dropped, and the rest is there."""

    @handler("fine")
    async def fine(ctx: Context) -> None:
        return

    ids = [await bench.trigger(fine) for _ in range(3)]
    async with bench.working(fine):
        for run_id in ids:
            await bench.ended(run_id)
    bench.skip(15 * DAY)
    monkeypatch.setattr(pruner, "BATCH", 1)
    first = asyncio.Event()
    go_on = asyncio.Event()
    write = bench.database.write

    async def slow(verb: Any, item: Any) -> Any:
        done = await write(verb, item)
        if verb is pruner.prune:
            first.set()
            await go_on.wait()
        return done

    async def noticed() -> bool:
        return any(execution.ctx.cancelled for execution in worker.executions.values())

    async with keeping(bench, house()) as worker:
        monkeypatch.setattr(bench.database, "write", slow)
        bench.skip(DAY)
        await first.wait()
        _, run = (await jobs_of(bench))["prune"]
        assert run is not None
        await write(changes.cancel, changes.Cancel(run.team_id, run.id, "ann", None))
        await bench.eventually(noticed)
        go_on.set()
        assert (await all_ended(bench))["prune"].status is Status.CANCELLED
    assert await bench.statuses() == {"completed": 2}


@pytest.fixture
async def settings(database_url: str, tmp_path: Path) -> Settings:
    """Settings of a crew with one module of handlers."""
    made = Settings(
        database_url=database_url,
        data_dir=tmp_path / "data",
        team="crew",
        handlers=["tests.engine.family_handlers"],
        runner=RunnerSettings(queues=["mail"], types=["family_parent"]),
        retention=RetentionSettings(completed=timedelta(days=1)),
    )
    await make_scope(made)
    return made


async def test_a_worker_brings_them_along(settings: Settings) -> None:
    """Whatever types and queues it is for; a drain does not wait for their next fires, and none is made by it."""
    for _ in range(2):
        assert await run_worker(settings, drain=True) is WorkerEnd.DRAINED
    found = await own_jobs(settings)
    on_file = settings.database_file is not None
    assert [job.slug for job, _ in found] == [slug for slug in SQLITE_JOBS if on_file or slug != "checkpoint"]
    assert all(run is None and job.next_fire_at is not None for job, run in found)
    async with open_client(settings) as client:
        assert [team.slug for team in await client.teams.list()] == ["crew"]
        with pytest.raises(ValidationError, match="the team of jobdeck's own jobs"):
            await client.teams.create("system")
        workers = await client.workers.list()
        assert {worker.queues for worker in workers} == {("mail",)}
        kinds = {kind.name: kind.scope for kind in await client.types.list()}
        assert kinds["system.prune"] == kinds["system.statistics"] == "system"


async def test_one_that_was_disabled_stays_disabled(settings: Settings) -> None:
    """By whoever does not want it; the next worker does not switch it on again."""
    await run_worker(settings, drain=True)
    async with open_client(settings.model_copy(update={"team": "system", "project": ""})) as client:
        (job,) = [each for each in await client.jobs.list() if each.slug == "prune"]
        await client.jobs.switch([job.id], enabled=False)
    await run_worker(settings, drain=True)
    (again,) = [job for job, _ in await own_jobs(settings) if job.slug == "prune"]
    assert (again.enabled, again.next_fire_at) == (False, None)


async def test_nothing_is_made_by_looking(settings: Settings) -> None:
    """A client and an open database make no system jobs: a worker alone does."""
    async with open_client(settings), open_database(settings):
        pass
    assert await own_jobs(settings) == []


@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_a_checkpoint_gives_the_room_of_the_log_back(bench: Bench, database_url: str) -> None:
    """All of it; where a reader stands in the way it says so, and comes to no harm."""
    file = Path(database_url.removeprefix("sqlite:///"))

    @handler("fine")
    async def fine(ctx: Context) -> None:
        return

    await bench.trigger(fine)
    done = await checkpoint(database_url)
    assert done["wal_bytes_before"] > 0
    assert (done["wal_bytes"], done["busy"]) == (0, False)
    await bench.trigger(fine)
    with closing(sqlite3.connect(file, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM runs").fetchall()
        await bench.trigger(fine)
        held = await checkpoint(database_url)
        assert held["busy"]
        assert held["wal_bytes"] > 0
    assert (await checkpoint(database_url))["wal_bytes"] == 0
    assert await bench.statuses() == {"pending": 3}


async def test_a_server_has_no_log_to_cut_back() -> None:
    """A job of that kind, restored from a file to a server, does nothing."""
    assert await checkpoint("postgresql+asyncpg://nobody@nowhere/none") == {}
