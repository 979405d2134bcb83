"""What becomes of a run whose handler fails, and how a handler steers that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from pydantic import BaseModel

from jobdeck import Backoff, Context, Discard, Growth, Retry, Snooze, ValidationError, handler, limits
from jobdeck.model import Run
from jobdeck.states import Status
from tests.engine.bench import Bench, outcomes


class Number(BaseModel):
    """Params with one number."""

    number: int = 0


def ended_times(number: int) -> Callable[[Run], bool]:
    """Whether so many attempts have ended and none runs."""
    return lambda run: len(run.attempts) == number and run.attempts[-1].outcome is not None


def wait_of(run: Run) -> float:
    """Seconds between the end of the last attempt and the next one."""
    ended = run.attempts[-1].finished_at
    assert ended is not None
    return (run.due_at - ended).total_seconds()


async def test_a_failure_is_tried_again_after_a_growing_wait(bench: Bench) -> None:
    """Each wait lies between zero and the step, steps grow by the factor up to the cap; then it completes."""

    @handler("flaky", max_attempts=9, backoff=Backoff(base=100, factor=3, cap=500))
    async def flaky(ctx: Context) -> int:
        if ctx.attempt < 5:
            raise ConnectionError(f"try {ctx.attempt}")
        return ctx.attempt

    run_id = await bench.trigger(flaky)
    async with bench.working(flaky):
        for failures, step in enumerate((100, 300, 500, 500), 1):
            waiting = await bench.until(run_id, ended_times(failures))
            assert (waiting.status, waiting.label) == (Status.PENDING, "retrying")
            assert (waiting.failure_kind, waiting.error) == ("error", f"ConnectionError: try {failures}")
            assert 0 <= wait_of(waiting) <= step
            bench.skip(step)
        done = await bench.ended(run_id)
    assert (done.status, done.result, done.failures, done.attempt) == (Status.COMPLETED, 5, 4, 5)
    assert (done.error, done.failure_kind, done.traceback) == (None, None, None)
    assert outcomes(done) == ["error"] * 4 + ["completed"]


async def test_a_herd_is_spread_over_the_whole_step(bench: Bench) -> None:
    """Full jitter: 30 runs that fail together come back all over the step, not near its end."""

    @handler("herd", backoff=Backoff(base=1_000))
    async def herd(ctx: Context) -> None:
        raise TimeoutError

    bench.offer(herd)
    ids = await bench.client.runs.trigger_many("herd", [{}] * 30)
    async with bench.working(herd, concurrency=30):
        waits = sorted([wait_of(await bench.until(run_id, lambda run: run.failures)) for run_id in ids])
    # Each of these would fail by chance less than once in a million times.
    assert waits[0] < 400
    assert waits[-1] > 600
    assert len(set(waits)) == 30


async def test_an_attempt_budget_of_one_fails(bench: Bench) -> None:
    """With max_attempts 1 the first error ends the run as failed."""

    @handler("once", max_attempts=1)
    async def once(ctx: Context) -> None:
        raise KeyError("missing")

    done = await bench.outcome(once)
    assert (done.status, done.failure_kind, done.error) == (Status.FAILED, "error", "KeyError: 'missing'")
    assert outcomes(done) == ["error"]


async def test_a_used_up_budget_is_dead(bench: Bench) -> None:
    """The last of several failures ends the run as dead, every attempt keeps its own error and traceback."""

    @handler("doomed", max_attempts=3, backoff=Backoff(base=0))
    async def doomed(ctx: Context) -> None:
        raise ValueError(f"try {ctx.attempt}")

    done = await bench.outcome(doomed)
    assert (done.status, done.failures, done.failure_kind) == (Status.DEAD, 3, "error")
    assert [item.error for item in done.attempts] == [
        "ValueError: try 1",
        "ValueError: try 2",
        "ValueError: try 3",
    ]
    assert all("in doomed" in (item.traceback or "") for item in done.attempts)


async def test_retry_names_its_own_wait(bench: Bench) -> None:
    """`Retry(after=…)` counts as a failure and waits exactly so long; without `after` the backoff decides."""

    @handler("limited", max_attempts=3, backoff=Backoff(base=0))
    async def limited(ctx: Context) -> str:
        if ctx.attempt == 1:
            raise Retry("429 Too Many Requests", after="90s")
        if ctx.attempt == 2:
            raise Retry
        return "in"

    run_id = await bench.trigger(limited)
    async with bench.working(limited):
        waiting = await bench.until(run_id, lambda run: run.failures)
        assert (waiting.error, wait_of(waiting)) == ("429 Too Many Requests", 90)
        bench.skip(90)
        done = await bench.ended(run_id)
    assert (done.status, done.failures, outcomes(done)) == (
        Status.COMPLETED,
        2,
        ["error", "error", "completed"],
    )


async def test_a_run_may_have_its_own_backoff(bench: Bench) -> None:
    """It goes before that of the job type: a list of waits is kept to the second, and its last one stays."""

    @handler("patient", backoff=Backoff(base=1_000))
    async def patient(ctx: Context) -> str:
        if ctx.attempt < 4:
            raise TimeoutError
        return "in"

    own = Backoff(growth=Growth.CUSTOM, delays=(1.0, 20.0))
    run_id = await bench.trigger(patient, backoff=own, max_attempts=9)
    async with bench.working(patient):
        for failures, wait in enumerate((1, 20, 20), 1):
            waiting = await bench.until(run_id, ended_times(failures))
            assert wait_of(waiting) == wait
            bench.skip(wait)
        done = await bench.ended(run_id)
    assert (done.status, done.backoff) == (Status.COMPLETED, own.facts())


async def test_a_backoff_that_cannot_be_read(bench: Bench) -> None:
    """A row that somebody has spoilt does not keep the outcome from being stored: the job type's backoff is used."""

    @handler("spoilt", max_attempts=3, backoff=Backoff(base=7, growth=Growth.FIXED))
    async def spoilt(ctx: Context) -> None:
        raise TimeoutError

    run_id = await bench.trigger(spoilt, backoff=Backoff(base=1))
    await bench.set_run(run_id, backoff='{"base": "long"}')
    async with bench.working(spoilt):
        waiting = await bench.until(run_id, lambda run: run.failures)
    assert wait_of(waiting) == 7


async def test_policies_for_exceptions(bench: Bench) -> None:
    """The policy of the nearest class decides; one of a base class for the rest; what none names is tried again."""

    class Refused(ConnectionError):
        pass

    class Limited(ConnectionError):
        pass

    @handler(
        "policed",
        max_attempts=5,
        backoff=Backoff(base=0),
        on_error={
            Refused: Discard,
            Limited: lambda error: Retry("too many", after=float(str(error))),
            ConnectionError: Snooze("2m"),
            LookupError: lambda error: None,
        },
    )
    async def policed(ctx: Context, params: Number) -> None:
        raise (Refused("no"), Limited("90"), ConnectionResetError("gone"), KeyError("k"))[params.number]

    refused, limited, reset, other = [await bench.trigger(policed, {"number": each}) for each in range(4)]
    async with bench.working(policed):
        done = await bench.ended(refused)
        assert (done.status, done.failures, done.error) == (Status.FAILED, 1, "Refused: no")
        assert "in policed" in (done.traceback or "")
        waiting = await bench.until(limited, lambda run: run.failures)
        assert (waiting.error, wait_of(waiting)) == ("too many", 90)
        snoozed = await bench.until(reset, lambda run: run.attempts and run.attempts[0].outcome)
        assert (outcomes(snoozed), snoozed.failures, wait_of(snoozed)) == (["snoozed"], 0, 120)
        assert snoozed.attempts[0].error == "ConnectionResetError: gone"
        dead = await bench.ended(other)
        assert (dead.status, dead.failures, dead.error) == (Status.DEAD, 5, "KeyError: 'k'")


async def test_a_policy_that_fails_itself(bench: Bench) -> None:
    """It is an error of the attempt, and the handler's own exception stays in sight."""

    def policy(error: ValueError) -> Retry:
        return Retry(after=1 / 0)

    @handler("broken", max_attempts=1, on_error={ValueError: policy})
    async def broken(ctx: Context) -> None:
        raise ValueError("first")

    done = await bench.outcome(broken)
    assert (done.status, (done.error or "").split(":")[0]) == (Status.FAILED, "ZeroDivisionError")
    assert "ValueError: first" in (done.traceback or "")


async def test_discard_ends_the_run(bench: Bench) -> None:
    """`Discard` ends it as failed with its reason, whatever attempts are left; it is no bug, so no traceback."""

    @handler("gone", max_attempts=9)
    async def gone(ctx: Context) -> None:
        raise Discard("the account was closed")

    done = await bench.outcome(gone)
    assert (done.status, done.error, done.traceback) == (Status.FAILED, "the account was closed", None)
    assert outcomes(done) == ["error"]


async def test_snooze_burns_no_attempt(bench: Bench) -> None:
    """`Snooze` puts the run back for its delay; with one attempt allowed it still completes afterwards."""

    @handler("later", max_attempts=1)
    async def later(ctx: Context) -> int:
        if ctx.attempt < 3:
            raise Snooze("10m", "not yet")
        return ctx.attempt

    run_id = await bench.trigger(later)
    async with bench.working(later):
        for attempt in (1, 2):
            waiting = await bench.until(run_id, ended_times(attempt))
            assert (waiting.status, waiting.failures, wait_of(waiting)) == (Status.PENDING, 0, 600)
            bench.skip(600)
        done = await bench.ended(run_id)
    assert (done.status, done.result, done.failures) == (Status.COMPLETED, 3, 0)
    assert outcomes(done) == ["snoozed", "snoozed", "completed"]


async def test_a_wait_without_end_is_cut(bench: Bench) -> None:
    """A wait that no column could hold becomes the longest delay there is; the worker goes on."""

    @handler("never")
    async def never(ctx: Context, params: Number) -> None:
        raise Retry("x", after=timedelta.max) if params.number else Snooze(timedelta.max)

    ids = [await bench.trigger(never, {"number": number}) for number in (0, 1)]
    async with bench.working(never):
        for run_id in ids:
            assert wait_of(await bench.until(run_id, ended_times(1))) == limits.DELAY_MAX


RAISED: list[tuple[BaseException, str]] = [
    (SystemExit(3), "SystemExit: 3"),
    (KeyboardInterrupt(), "KeyboardInterrupt"),
    (StopIteration(), "RuntimeError: "),
    (asyncio.CancelledError(), "the handler cancelled itself"),
    (GeneratorExit(), "GeneratorExit"),
    (ValidationError("wrong", field="params"), "ValidationError: wrong"),
    (ExceptionGroup("two", [OSError("a")]), "ExceptionGroup: two (1 sub-exception)"),
]


async def test_whatever_is_raised_fails_the_attempt_alone(bench: Bench) -> None:
    """No exception of a handler, async or sync, ends the worker or is taken for something else."""

    @handler("raises", max_attempts=1)
    async def raises(ctx: Context, params: Number) -> None:
        raise RAISED[params.number][0]

    @handler("raises_in_thread", max_attempts=1)
    def raises_in_thread(ctx: Context, params: Number) -> None:
        raise RAISED[params.number][0]

    @handler("neighbour")
    async def neighbour(ctx: Context) -> None: ...

    specs = [raises, raises_in_thread]
    ids = [(await bench.trigger(spec, {"number": n}), n) for spec in specs for n, _ in enumerate(RAISED)]
    async with bench.working(*specs, neighbour, concurrency=20):
        for run_id, number in ids:
            done = await bench.ended(run_id)
            assert (done.status, done.failure_kind) == (Status.FAILED, "error")
            assert (done.error or "").startswith(RAISED[number][1])
        assert (await bench.ended(await bench.trigger(neighbour))).status is Status.COMPLETED


async def test_pydantic_errors_of_a_handler_are_ordinary_failures(bench: Bench) -> None:
    """A handler that validates its own data and fails is tried again; only its params are `invalid_params`."""

    @handler("parses", max_attempts=2, backoff=Backoff(base=0))
    async def parses(ctx: Context) -> None:
        Number.model_validate({"number": "x"})

    done = await bench.outcome(parses)
    assert (done.status, done.failure_kind, done.failures) == (Status.DEAD, "error", 2)


async def test_errors_are_cleaned_and_cut(bench: Bench) -> None:
    """What an error says cannot steer a terminal, cannot break a database, and has a bounded size."""

    @handler("hostile", max_attempts=1)
    async def hostile(ctx: Context) -> None:
        raise RuntimeError("\x1b[2J\x00\ud800\u202e" + "ä" * 20_000)

    done = await bench.outcome(hostile)
    assert done.error is not None
    assert done.error.startswith("RuntimeError: \\x1b[2J\\x00\\ud800\\u202eää")
    assert done.error.endswith("… (cut)")
    assert limits.ERROR_BYTES - 4 < len(done.error.encode()) <= limits.ERROR_BYTES
    assert done.traceback is not None
    assert "\x1b" not in done.traceback
    assert "in hostile" in done.traceback


class Unspeakable(Exception):
    """An exception that cannot even be turned into text."""

    def __str__(self) -> str:
        raise ZeroDivisionError


async def test_an_error_without_a_text_is_still_an_error(bench: Bench) -> None:
    """An exception whose own text fails ends the attempt like any other."""

    @handler("mute", max_attempts=1)
    async def mute(ctx: Context) -> None:
        raise Unspeakable

    done = await bench.outcome(mute)
    assert done.status is Status.FAILED
    assert done.error == "Unspeakable: an exception whose text cannot be made"


async def test_the_name_of_an_error_is_bounded_too(bench: Bench) -> None:
    """A class name of any length or content makes no error text beyond the limit."""
    strange: Any = type("N\x1b" + "n" * 20_000, (Exception,), {})

    @handler("strange", max_attempts=1)
    async def named(ctx: Context) -> None:
        raise strange("x")

    done = await bench.outcome(named)
    assert done.error is not None
    assert done.error.startswith("N\\x1bnn")
    assert len(done.error.encode()) <= limits.ERROR_BYTES
