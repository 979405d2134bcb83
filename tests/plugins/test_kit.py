"""`jobdeck.testing`: a handler run alone, through the pipeline, context and limits of a worker."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import Any

import pytest
from pydantic import BaseModel

from jobdeck import CancelReason, Context, Discard, Retry, Secret, Snooze, StaleLease, handler, limits
from jobdeck.secret import redaction
from jobdeck.testing import FakeClock, LoggedLine, run_handler, run_handler_sync


class Params(BaseModel):
    """Params of the handlers here."""

    word: str = ""
    token: Secret | None = None


@handler("all")
async def everything(ctx: Context, params: Params) -> dict[str, Any]:
    """Use all of the context."""
    ctx.progress(3, total=4, failed=1, message=params.word)
    ctx.log.info("hello", page=1)
    ctx.log.debug("detail")
    logging.getLogger("lib").error("trouble")
    await ctx.checkpoint({"page": 3})
    await ctx.verify_lease()
    child = await ctx.enqueue("other", {"n": 1}, queue="q")
    return {
        "team": ctx.team, "project": ctx.project, "attempt": ctx.attempt, "resume": ctx.resume, "child": child,
        "settings": ctx.settings,
    }  # fmt: skip


async def test_everything_a_handler_does_is_collected() -> None:
    """Result as JSON, progress, log, checkpoints and children; facts of the run as given."""
    done = await run_handler(
        everything, {"word": "x"}, attempt=2, resume=[1], team="crew", project="moon", settings={"a": 1}
    )
    assert done.outcome == "completed"
    child = done.children[0]
    assert (child.job_type, child.params, child.options) == ("other", {"n": 1}, {"queue": "q"})
    assert done.result == {
        "team": "crew", "project": "moon", "attempt": 2, "resume": [1], "child": str(child.id),
        "settings": {"a": 1, "http_allow": []},
    }  # fmt: skip
    assert (done.progress.processed, done.progress.fraction, done.progress.message) == (3, 0.75, "x")
    assert done.logs == (
        LoggedLine("info", "hello", {"page": 1}),
        LoggedLine("error", "trouble", {"logger": "lib"}),
    )
    assert done.checkpoints == ({"page": 3},)
    assert (done.error, done.traceback, done.retry_in, done.final) == (None, None, None, False)


async def test_debug_mode_shows_debug_lines() -> None:
    """As for a run triggered in debug mode."""
    done = await run_handler(everything, debug_mode=True)
    assert LoggedLine("debug", "detail", {}) in done.logs


def test_a_sync_handler_runs_in_a_thread() -> None:
    """Also where the test is not async; the methods for threads work."""

    @handler("plain")
    def plain(ctx: Context) -> str:
        ctx.checkpoint_sync(1)
        ctx.enqueue_sync("other")
        ctx.sleep_sync(0.001)
        logging.getLogger("lib").info("there")
        return threading.current_thread().name

    done = run_handler_sync(plain)
    assert (done.result, done.checkpoints, len(done.children)) == ("jobdeck-handler", (1,), 1)
    assert done.logs == (LoggedLine("info", "there", {"logger": "lib"}),)


@pytest.mark.parametrize(
    ("raised", "facts"),
    [
        (Retry("busy", after="90s"), ("error", "busy", 90.0, False)),
        (Retry("busy"), ("error", "busy", None, False)),
        (Discard("gone"), ("error", "gone", None, True)),
        (Snooze("1h", "later"), ("snoozed", "later", 3600.0, False)),
        (OSError("disk"), ("error", "OSError: disk", None, False)),
    ],
)
async def test_steering_is_seen(raised: Exception, facts: tuple[str, str, float | None, bool]) -> None:
    """What a handler raises becomes the outcome that a worker would store."""

    @handler("raises")
    async def raises(ctx: Context) -> None:
        raise raised

    done = await run_handler(raises)
    assert (done.outcome, done.error, done.retry_in, done.final) == facts


async def test_a_cancel_can_be_tried() -> None:
    """Before it begins, or in the middle of a sleep, which wakes at once; for any reason."""

    @handler("sleeps")
    async def sleeps(ctx: Context) -> None:
        ctx.log.info("asleep")
        await ctx.sleep("1h")

    began = time.monotonic()
    before = await run_handler(sleeps, cancel_after=0)
    amid = await run_handler(sleeps, cancel_after=0.01)
    timed_out = await run_handler(sleeps, cancel_after=0.01, cancel_reason=CancelReason.TIMEOUT)
    stopped = await run_handler(sleeps, cancel_after=0.01, cancel_reason=CancelReason.SHUTDOWN)
    assert time.monotonic() - began < 10
    outcomes = [done.outcome for done in (before, amid, timed_out, stopped)]
    assert outcomes == ["cancelled", "cancelled", "timed_out", "interrupted"]
    assert [line.message for line in amid.logs] == ["asleep"]


async def test_a_lost_lease_can_be_tried() -> None:
    """Checkpoints and the question for the lease are refused, as after another worker took the run over."""

    @handler("writes")
    async def writes(ctx: Context) -> str:
        with pytest.raises(StaleLease):
            await ctx.verify_lease()
        await ctx.checkpoint(1)
        return "unreachable"

    done = await run_handler(writes, lease_lost=True)
    assert (done.outcome, done.result, done.checkpoints) == ("error", None, ())


async def test_the_limits_of_a_worker_hold() -> None:
    """Wrong params, too much result: refused as in production."""
    wrong = await run_handler(everything, {"word": 1})
    assert (wrong.outcome, wrong.final) == ("error", True)
    assert (wrong.error or "").startswith("params of all: word: Input should be a valid string")

    @handler("hoards")
    async def hoards(ctx: Context) -> str:
        return "x" * limits.RESULT_BYTES

    large = await run_handler(hoards)
    assert (large.outcome, large.final) == ("error", True)
    assert "result has 262,146 bytes" in (large.error or "")


async def test_secrets_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test sees what an operator would see."""
    monkeypatch.setattr(redaction, "_known", redaction.NOTHING)
    monkeypatch.setenv("JOBDECK_SECRET_TOKEN", "open-sesame")

    @handler("leaks")
    async def leaks(ctx: Context, params: Params) -> str:
        assert params.token is not None
        assert "sesame" not in repr(params)
        return params.token.reveal()

    assert (await run_handler(leaks, {"token": "secret://token"})).result == "********"


async def test_the_clock_of_tests_moves_when_told() -> None:
    """Sleepers wake in order once the clock has come so far; wall and monotonic time move together or apart."""
    clock, woken = FakeClock(wall_us=1_000_000, monotonic=5.0), []

    async def sleeper(seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append(seconds)

    tasks = [asyncio.create_task(sleeper(seconds)) for seconds in (3, 1, 0)]
    while clock.sleepers < 2:
        await asyncio.sleep(0)
    assert woken == [0]
    clock.advance(1)
    await tasks[1]
    assert (woken, clock.sleepers) == ([0, 1], 1)
    clock.jump_wall(-10)
    assert (clock.monotonic(), clock.wall_us()) == (6.0, -8_000_000)
    clock.advance(2.5)
    await asyncio.gather(*tasks)
    assert woken == [0, 1, 3]
