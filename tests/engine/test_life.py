"""The life of a run that goes well, and of one that its handler refuses or answers badly."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

from pydantic import BaseModel

from jobdeck import Context, handler, limits
from jobdeck.engine.worker import Worker
from jobdeck.errors import ConfigError
from jobdeck.model import Progress
from jobdeck.states import Status
from jobdeck.store.claim import ClaimedRun
from tests.engine.bench import Bench, is_running, outcomes
from tests.engine.gate import Gate


class Pages(BaseModel, extra="forbid"):
    """Params of the handlers here."""

    pages: int = 1


class Word(BaseModel):
    """Params with one word."""

    word: str


async def test_a_run_goes_from_pending_to_completed(bench: Bench) -> None:
    """Pending, running with live progress, completed with result, progress, log, times and one attempt."""
    reported, go_on = Gate(), Gate()

    @handler("sync", category="sync")
    async def sync(ctx: Context, params: Pages) -> dict[str, Any]:
        ctx.progress(1, total=params.pages, skipped=1, message="page 1")
        ctx.log.info("page read", page=1)
        reported.open()
        await go_on.passed()
        ctx.progress(params.pages)
        return {"pages": params.pages, "at": datetime(2026, 1, 2, tzinfo=UTC)}

    run_id = await bench.trigger(sync, {"pages": 3})
    waiting = await bench.run(run_id)
    assert (waiting.status, waiting.attempt, waiting.started_at) == (Status.PENDING, 0, None)
    async with bench.working(sync) as worker:
        await reported.passed()
        running = await bench.until(run_id, lambda run: run.progress.processed)
        assert running.status is Status.RUNNING
        assert running.progress == Progress(1, total=3, skipped=1, message="page 1")
        assert running.worker_id == worker.id
        assert [(item.attempt, item.outcome) for item in running.attempts] == [(1, None)]
        go_on.open()
        done = await bench.ended(run_id)
    assert done.status is Status.COMPLETED
    assert done.result == {"pages": 3, "at": "2026-01-02T00:00:00Z"}
    assert done.progress == Progress(3, total=3, skipped=1, message="page 1")
    assert (done.error, done.failure_kind, done.failures, done.crash_count) == (None, None, 0, 0)
    assert done.started_at is not None
    assert done.finished_at is not None
    assert waiting.created_at <= done.started_at <= done.finished_at
    assert outcomes(done) == ["completed"]
    entries = await bench.logs(run_id)
    assert [(entry.level, entry.message, entry.attempt) for entry in entries] == [("info", "page read", 1)]
    assert entries[0].fields == {"page": 1}


async def test_a_context_says_what_it_runs(bench: Bench) -> None:
    """Team, project, type, id, attempt and fence of the run, and the settings meant for it."""
    seen: dict[str, Any] = {}

    @handler("facts")
    async def facts(ctx: Context) -> None:
        seen.update(team=ctx.team, project=ctx.project, kind=ctx.job_type, run=ctx.run_id, resume=ctx.resume)
        seen.update(
            attempt=ctx.attempt, fence=ctx.fence, settings=dict(ctx.settings), cancelled=ctx.cancelled
        )

    run_id = await bench.trigger(facts)
    async with bench.working(facts, parts={"settings_for": lambda run: {"for": run.job_type}}):
        await bench.ended(run_id)
    assert seen == {
        "team": "acme", "project": "site", "kind": "facts", "run": run_id, "resume": None, "attempt": 1, "fence": 1,
        "settings": {"for": "facts"}, "cancelled": False,
    }  # fmt: skip


async def test_settings_that_cannot_be_had_fail_the_attempt_alone(bench: Bench) -> None:
    """A server that cannot give a handler its settings (a folder it may not make) goes on with the other runs."""

    @handler("reads", max_attempts=1)
    async def reads(ctx: Context) -> object:
        return ctx.settings["folder"]

    @handler("other")
    async def other(ctx: Context) -> None: ...

    def refuse(run: ClaimedRun) -> Mapping[str, Any]:
        if run.job_type == "reads":
            raise ConfigError("data folder")
        return {}

    run_id = await bench.trigger(reads)
    async with bench.working(reads, other, parts={"settings_for": refuse}):
        failed = await bench.ended(run_id)
        assert (await bench.ended(await bench.trigger(other))).status is Status.COMPLETED
    assert (failed.status, failed.error) == (Status.FAILED, "ConfigError: data folder")
    assert failed.failure_kind == "error"


async def test_a_sync_handler_has_a_thread_and_every_means(bench: Bench) -> None:
    """It runs off both loops, and progress, log, sleep_sync and checkpoint_sync work from there."""
    threads: list[str] = []

    @handler("plain", max_attempts=2)
    def plain(ctx: Context, params: Pages) -> Any:
        threads.append(threading.current_thread().name)
        ctx.sleep_sync(0.001)
        ctx.raise_if_cancelled()
        ctx.log.warn("half way")
        ctx.progress(5, total=10)
        if ctx.resume is None:
            ctx.checkpoint_sync({"page": 5})
            raise OSError("connection reset")
        return ctx.resume

    run_id = await bench.trigger(plain)
    async with bench.working(plain):
        await bench.until(run_id, lambda run: run.failures == 1)
        bench.skip(10)
        done = await bench.ended(run_id)
    assert done.result == {"page": 5}
    assert outcomes(done) == ["error", "completed"]
    assert [entry.message for entry in await bench.logs(run_id)] == ["half way", "half way"]
    assert threads == ["jobdeck-handler", "jobdeck-handler"]


async def test_a_handler_may_take_no_params(bench: Bench) -> None:
    """`(ctx)` alone is enough, and nothing as a result is stored as nothing."""

    @handler("bare")
    async def bare(ctx: Context) -> None:
        ctx.log.info("here")

    done = await bench.outcome(bare)
    assert (done.status, done.result) == (Status.COMPLETED, None)


async def test_invalid_params_fail_that_run_alone(bench: Bench) -> None:
    """A run stored with params that today's handler refuses ends as failed at once; its neighbour completes."""

    class Old(BaseModel):
        pages: str = "many"

    @handler("sync", max_attempts=5)
    async def old(ctx: Context) -> None: ...

    object.__setattr__(old, "params", Old)

    @handler("sync", max_attempts=5)
    async def sync(ctx: Context, params: Pages) -> int:
        return params.pages

    bad = await bench.trigger(old, {"pages": "many"})
    good = await bench.trigger(sync, {"pages": 2})
    async with bench.working(sync):
        failed, done = await bench.ended(bad), await bench.ended(good)
    assert (failed.status, failed.failure_kind, failed.failures) == (Status.FAILED, "invalid_params", 1)
    assert failed.error is not None
    assert failed.error.startswith("params of sync: pages: Input should be a valid integer")
    assert (done.status, done.result) == (Status.COMPLETED, 2)


def knot() -> object:
    """A list that contains itself."""
    tied: list[object] = []
    tied.append(tied)
    return tied


REFUSED = {
    "result has 262,155 bytes": {"blob": "x" * limits.RESULT_BYTES},
    "unknown type": object(),
    "nan": float("nan"),
    "NUL": "a\x00b",
    "surrogate": "\ud800",
    "2^53": 2**60,
    "deeper": json.loads("[" * 40 + "]" * 40),
    "Circular": knot(),
}


async def test_a_result_that_cannot_be_stored_fails_the_run(bench: Bench) -> None:
    """What JSON or a database cannot hold ends the run as failed with the reason; trying again would not help."""

    @handler("answer", max_attempts=5)
    async def answer(ctx: Context, params: Word) -> object:
        return REFUSED[params.word]

    ids = {word: await bench.trigger(answer, {"word": word}) for word in REFUSED}
    async with bench.working(answer):
        for word, run_id in ids.items():
            done = await bench.ended(run_id)
            assert (done.status, done.failure_kind, outcomes(done)) == (Status.FAILED, "error", ["error"])
            assert (done.error or "").startswith("the result cannot be stored: ")
            assert word in (done.error or "")


async def test_results_of_many_kinds_become_json(bench: Bench) -> None:
    """Models, dates, sets, bytes and keys that are no text are stored as JSON says them."""

    @handler("answer")
    async def answer(ctx: Context) -> object:
        return {1: Word(word="é"), "when": date(2026, 1, 2), "set": {3}, "bytes": b"x", "none": None}

    done = await bench.outcome(answer)
    assert done.result == {"1": {"word": "é"}, "when": "2026-01-02", "set": [3], "bytes": "x", "none": None}


async def test_an_unknown_type_waits_and_says_why(bench: Bench) -> None:
    """A run of a type that no live worker knows stays pending, labelled held with the reason, until one does."""

    @handler("known")
    async def known(ctx: Context) -> None: ...

    @handler("unknown")
    async def unknown(ctx: Context) -> str:
        return "here I am"

    run_id = await bench.trigger(unknown)
    alone = await bench.run(run_id)
    assert (alone.label, alone.held_reason) == (
        "held",
        "no worker is running; start one with: jobdeck runner",
    )
    async with bench.working(known):
        neighbour = await bench.trigger(known)
        await bench.ended(neighbour)
        held = await bench.run(run_id)
        assert (held.status, held.label) == (Status.PENDING, "held")
        assert held.held_reason == (
            "no live worker takes the job type unknown; where it is installed, start one with: "
            "jobdeck runner --type unknown"
        )
        async with bench.working(unknown):
            assert (await bench.ended(run_id)).result == "here I am"


async def test_a_worker_takes_its_queues_only(bench: Bench) -> None:
    """A run of another queue is left alone and says that nobody takes that queue."""

    @handler("task")
    async def task(ctx: Context) -> None: ...

    mine = await bench.trigger(task, queue="mail")
    other = await bench.trigger(task, queue="reports")
    async with bench.working(task, queues=("mail", "sms")):
        await bench.ended(mine)
        held = await bench.run(other)
        assert (held.status, held.label) == (Status.PENDING, "held")
        assert (
            held.held_reason
            == "no live worker takes the queue reports; start one with: jobdeck runner --queue reports"
        )
        async with bench.working(task):
            await bench.ended(other)


async def test_a_run_that_falls_due_is_seen_among_many_ends(bench: Bench) -> None:
    """Outcomes that come in faster than the poll interval do not keep the worker from looking for what is due."""
    ends = [Gate() for _ in range(60)]

    @handler("paced")
    async def paced(ctx: Context, params: Pages) -> None:
        await ends[params.pages].passed()

    @handler("later")
    async def later(ctx: Context) -> None: ...

    bench.offer(paced)
    await bench.client.runs.trigger_many("paced", [{"pages": number} for number in range(60)])
    run_id = await bench.trigger(later, delay=timedelta(seconds=5))
    async with bench.working(paced, later, concurrency=80, poll=0.2, shutdown_grace=0) as worker:
        await bench.eventually(lambda: _busy(worker, 60))
        # By then it looks no more often than it must.
        await asyncio.sleep(0.5)
        for number, gate in enumerate(ends):
            if number == 5:
                # Due now, but nobody says so.
                bench.database.offset_us += 6_000_000
            if (await bench.run(run_id)).finished_at:
                break
            gate.open()
            await asyncio.sleep(0.03)
        assert (await bench.run(run_id)).status is Status.COMPLETED
        assert not ends[-1].is_open


async def _busy(worker: Worker, number: int) -> bool:
    return len(worker.slots.running) == number


async def test_no_more_runs_than_slots(bench: Bench) -> None:
    """With two slots two handlers run, the third run starts when one of them has ended."""
    began, go_on = [Gate() for _ in range(3)], [Gate() for _ in range(3)]

    @handler("slow")
    async def slow(ctx: Context, params: Pages) -> None:
        began[params.pages].open()
        await go_on[params.pages].passed()

    ids = [await bench.trigger(slow, {"pages": number}) for number in range(3)]
    async with bench.working(slow, concurrency=2):
        await began[0].passed()
        await began[1].passed()
        assert (await bench.run(ids[2])).status is Status.PENDING
        assert not began[2].is_open
        go_on[1].open()
        await began[2].passed()
        assert is_running(await bench.run(ids[0]))
        go_on[0].open()
        go_on[2].open()
        assert [(await bench.ended(run_id)).status for run_id in ids] == [Status.COMPLETED] * 3
