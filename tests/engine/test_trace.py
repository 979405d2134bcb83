"""What an attempt spends its time on is kept with it: by the worker's own clock, and by the database's alone."""

from __future__ import annotations

import asyncio
import math
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from jobdeck import Context, Snooze, handler
from jobdeck.engine.trace import PHASES, Stopwatch
from jobdeck.model import Attempt
from jobdeck.spans import MEASURED, unpacked
from jobdeck.states import AttemptOutcome, Status
from jobdeck.store.database import Database
from jobdeck.store.schema import attempts
from tests.engine import isolated_handlers
from tests.engine.bench import Bench
from tests.engine.gate import Gate
from tests.store.deck import execute_statement, team_of

WORKERS = ("queue_wait", "claim", "load", "handler", "commit", "total")


class Numbers(BaseModel):
    """What `strict` takes."""

    number: int


@handler("traced")
async def traced(ctx: Context) -> None:
    """Take a moment, and say of some of it what it was for."""
    ctx.trace(connect=0.25)
    ctx.trace(connect=0.5, ttfb=1)
    await ctx.sleep(0.05)


@handler("thread")
def in_thread(ctx: Context) -> None:
    """Say it from a thread."""
    ctx.trace(parse=2.0)


@handler("strict", max_attempts=1)
async def strict(ctx: Context, params: Numbers) -> None:
    """Never begins where the params are wrong."""


@handler("naps")
async def naps(ctx: Context) -> None:
    """Snooze once."""
    if ctx.attempt == 1:
        raise Snooze(5)


def milliseconds(attempt: Attempt) -> dict[str, float]:
    return {name: span / timedelta(milliseconds=1) for name, span in attempt.trace.items()}


async def test_an_attempt_has_a_trace(bench: Bench) -> None:
    """Every part has its span, and what the handler names is added up; the total is the database's own."""
    run = await bench.outcome(traced)
    (attempt,) = run.attempts
    trace = milliseconds(attempt)
    assert set(trace) == {*WORKERS, "connect", "ttfb"}
    assert (trace["connect"], trace["ttfb"]) == (750, 1000)
    assert trace["handler"] >= 49
    assert all(span >= 0 for span in trace.values())
    assert run.finished_at is not None
    assert attempt.trace["total"] == run.finished_at - run.due_at
    assert attempt.trace["queue_wait"] == attempt.started_at - run.due_at


async def test_each_attempt_has_its_own(bench: Bench) -> None:
    """A run that was put back waits anew, from when it was due again and not while it snoozed."""
    run_id = await bench.trigger(naps)
    async with bench.working(naps):
        await bench.until(run_id, lambda run: run.status is Status.PENDING and run.attempt == 1)
        bench.skip(5)
        run = await bench.ended(run_id)
    first, second = run.attempts
    assert first.trace.keys() == second.trace.keys() == set(WORKERS)
    assert second.trace["queue_wait"] < timedelta(seconds=4)
    assert second.trace["queue_wait"] == second.started_at - run.due_at


async def test_handlers_in_threads_and_processes(bench: Bench) -> None:
    """Both can name what they spend their time on."""
    thread, process = await bench.trigger(in_thread), await bench.trigger(isolated_handlers.isolated_traces)
    async with bench.working(in_thread, isolated_handlers.isolated_traces):
        by_thread, by_process = await bench.ended(thread), await bench.ended(process)
    assert milliseconds(by_thread.attempts[0])["parse"] == 2_000
    trace = milliseconds(by_process.attempts[0])
    assert trace["parse"] == 1_500
    assert trace["handler"] > 0


async def test_a_handler_that_never_began(bench: Bench) -> None:
    """Params that are not valid are found while loading."""
    run = await bench.outcome(strict, {"number": 1})
    assert run.status is Status.COMPLETED
    run_id = await bench.trigger(strict, {"number": 1})
    await bench.set_run(run_id, params='{"number":"none"}')
    async with bench.working(strict):
        run = await bench.ended(run_id)
    trace = milliseconds(run.attempts[0])
    assert (run.status, trace["handler"]) == (Status.FAILED, 0)
    assert trace["load"] > 0


async def test_a_crash_has_none(database: Database) -> None:
    """Nobody knows what a worker did that fell silent."""
    deck = await team_of(database, "acme")
    claimed = await deck.started()
    deck.forward(31)
    await deck.recover()
    (attempt,) = (await deck.show(claimed.id)).attempts
    assert (attempt.outcome, attempt.trace) == (AttemptOutcome.CRASHED, {})


@pytest.mark.parametrize(
    "wrong",
    [
        {"negative": -1.0},
        {"endless": math.inf},
        {"none": math.nan},
        {"text": "1"},
        {"truth": True},
        {"handler": 1.0},
        {"total": 1.0},
        {"no name": 1.0},
        {"n" * 33: 1.0},
        {"\x1b[31m": 1.0},
    ],
)
def test_what_is_no_phase_is_left_out(wrong: dict[str, Any]) -> None:
    """A trace never makes a handler fail, and holds nothing that could not be shown."""
    watch = Stopwatch()
    watch.add({"good": 1, **wrong})
    spans = unpacked(watch.text(7, 9))
    assert (spans["queue_wait"], spans["claim"], spans["good"]) == (7, 9, 1_000_000)
    assert spans.keys() == {*MEASURED, "good"}


def test_at_most_sixteen_names() -> None:
    """Names after that are left out; those that are there go on growing, up to a year."""
    watch = Stopwatch()
    watch.add({f"p{number}": 1.0 for number in range(PHASES + 1)})
    watch.add({"p0": 1.0, "new": 1.0, "p1": 1e300})
    phases = unpacked(watch.text(0, 0))
    assert len(phases) == PHASES + len(MEASURED)
    assert phases["p0"] == 2_000_000
    assert phases["p1"] == 366 * 86_400 * 1_000_000


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "5",
        "{}",
        "[1,2,3,4]",
        "[1,2,3,4,null]",
        '[1,2,3,4,"5"]',
        "[1,2,3,4,true]",
        "[1,2,3,4,5.5]",
        "[1,2,3,4,9007199254740992]",
        '[1,2,3,4,5,{"connect":"1"}]',
        "[" * 100_000,
        None,
    ],
)
def test_a_trace_that_is_none(text: Any) -> None:
    """Whoever changes the database by hand keeps nobody from seeing the run."""
    assert unpacked(text) == {}


async def test_a_spoilt_trace_is_left_out(bench: Bench) -> None:
    """The run and its attempts are shown all the same."""
    run = await bench.outcome(traced)
    await bench.database.write(execute_statement, attempts.update().values(trace='{"queue_wait":1}'))
    (attempt,) = (await bench.run(run.id)).attempts
    assert (attempt.outcome, attempt.trace) == (AttemptOutcome.COMPLETED, {})


class _Growing(dict[str, float]):
    """Phases to which another thread adds one while they are looked at; to copy them is one step."""

    def items(self) -> Any:
        for item in super().items():
            self.setdefault("late", 1.0)
            yield item

    def copy(self) -> dict[str, float]:
        return dict.copy(self)


def test_phases_that_come_while_it_is_made() -> None:
    """A handler that was given up goes on in its thread: its outcome is stored all the same."""
    watch = Stopwatch()
    watch.add({"good": 1})
    watch._phases = _Growing(watch._phases or {})
    assert unpacked(watch.text(0, 0))["good"] == 1_000_000


async def test_an_attempt_given_up_has_one(bench: Bench) -> None:
    """Its handler has not ended: it counts until it was given up."""
    let_go = Gate()

    @handler("deaf", cancel_grace=0.01)
    async def deaf(ctx: Context) -> None:
        """Hold on to the cancel until the test lets go."""
        while not let_go.is_open:
            try:
                await let_go.passed()
            except asyncio.CancelledError:
                continue

    run_id = await bench.trigger(deaf)
    async with bench.working(deaf):
        await bench.until(run_id, lambda run: run.status is Status.RUNNING)
        await bench.client.runs.cancel(run_id)
        run = await bench.ended(run_id)
        let_go.open()
    (attempt,) = run.attempts
    assert attempt.outcome == AttemptOutcome.ABANDONED
    assert attempt.trace["handler"] > timedelta(0)
