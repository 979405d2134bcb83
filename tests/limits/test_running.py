"""Limits of what a handler hands over: its result, errors, log, progress and checkpoints, and its children."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import pytest

from jobdeck import Backoff, Context, ValidationError, handler, limits
from jobdeck.model import Run
from jobdeck.states import Status
from jobdeck.store.database import Database
from tests.engine.bench import Bench, bench_on

# What is told of a line beside its text, and counted with it.
_LINE_FRAME: Final = 16


@pytest.fixture
async def bench(database: Database) -> AsyncIterator[Bench]:
    """A team on a fresh database, without a worker."""
    made = await bench_on(database)
    yield made
    made.client.close()


def _result(size: int) -> dict[str, str]:
    """A result of so many bytes of compact JSON, in characters of two."""
    room = size - len('{"blob":""}')
    return {"blob": "é" * (room // 2) + "x" * (room % 2)}


async def test_at_the_limit_and_one_beyond(bench: Bench) -> None:
    """A result of 262,144 bytes is stored whole; one byte more fails the run, once, with what it has and may have."""

    @handler("results", max_attempts=3)
    async def results(ctx: Context) -> dict[str, str]:
        return _result(limits.RESULT_BYTES + (1 if ctx.run_id == larger else 0))

    fits, larger = await bench.trigger(results), await bench.trigger(results)
    async with bench.working(results):
        done, refused = await bench.ended(fits), await bench.ended(larger)
    assert (done.status, done.result) == (Status.COMPLETED, _result(limits.RESULT_BYTES))
    assert (refused.status, refused.result, refused.attempt) == (Status.FAILED, None, 1)
    assert "result has 262,145 bytes of JSON; at most 262,144 are allowed" in str(refused.error)


async def test_checkpoints(bench: Bench) -> None:
    """A checkpoint of 262,144 bytes comes back whole at the next attempt; one beyond is refused and leaves it there."""
    seen: list[Any] = []

    @handler("checkpoints", backoff=Backoff(base=0))
    async def checkpoints(ctx: Context) -> None:
        if ctx.attempt == 1:
            await ctx.checkpoint("x" * (limits.CHECKPOINT_BYTES - 2))
            with pytest.raises(
                ValidationError, match=r"checkpoint has 262,145 bytes.* at most 262,144"
            ) as caught:
                await ctx.checkpoint("x" * (limits.CHECKPOINT_BYTES - 1))
            assert caught.value.exit_code == 2
            raise OSError("again")
        seen.append(ctx.resume)

    run = await bench.outcome(checkpoints)
    assert (run.status, seen) == (Status.COMPLETED, ["x" * (limits.CHECKPOINT_BYTES - 2)])


async def test_errors(bench: Bench) -> None:
    """8,192 bytes of an error are kept whole; of more, as many with a mark at the end."""

    @handler("errs", max_attempts=1)
    async def errs(ctx: Context) -> None:
        raise RuntimeError("é" * 4_089 + "x" * (1 if ctx.run_id == longer else 0))

    fits, longer = await bench.trigger(errs), await bench.trigger(errs)
    async with bench.working(errs):
        whole, cut = await bench.ended(fits), await bench.ended(longer)
    assert whole.error == "RuntimeError: " + "é" * 4_089
    assert len(whole.error.encode()) == limits.ERROR_BYTES
    assert cut.error is not None
    assert cut.error.endswith("… (cut)")
    assert limits.ERROR_BYTES - 2 < len(cut.error.encode()) <= limits.ERROR_BYTES


async def test_lines_and_messages(bench: Bench) -> None:
    """8,192 bytes of a line and 512 characters of a message are kept whole; more is cut, with a mark."""

    @handler("tells")
    async def tells(ctx: Context) -> None:
        more = 1 if ctx.run_id == longer else 0
        ctx.log.info("x" * (limits.LOG_LINE_BYTES + more))
        ctx.progress(message="é" * (limits.MESSAGE_CHARS + more))

    fits, longer = await bench.trigger(tells), await bench.trigger(tells)
    async with bench.working(tells):
        whole, cut = await bench.ended(fits), await bench.ended(longer)
    assert (whole.progress.message, cut.progress.message) == ("é" * 512, "é" * 511 + "…")
    (whole_line,), (cut_line,) = await bench.logs(fits), await bench.logs(longer)
    assert whole_line.message == "x" * 8_192
    assert (len(cut_line.message.encode()), cut_line.message[-7:]) == (8_192, "… (cut)")


async def test_counts(bench: Bench) -> None:
    """Progress counts to 2^53, which every reader of JSON holds exactly, and not beyond."""

    @handler("counts")
    async def counts(ctx: Context) -> None:
        ctx.progress(2**53, total=2**53 + 1, failed=2**53 - 1, skipped=-1)

    run = await bench.outcome(counts)
    assert (run.progress.processed, run.progress.total) == (2**53, 2**53)
    assert (run.progress.failed, run.progress.skipped) == (2**53 - 1, 0)


async def test_the_log_of_a_run(bench: Bench) -> None:
    """10 MiB of log are kept to the last byte; the line that would be one byte too long is a mark, and the last one."""
    text = limits.LOG_LINE_BYTES - _LINE_FRAME
    lines = limits.LOG_RUN_BYTES // limits.LOG_LINE_BYTES

    @handler("talks")
    async def talks(ctx: Context) -> None:
        for _ in range(lines - 1):
            ctx.log.info("x" * text)
        ctx.log.info("l" * (text + (1 if ctx.run_id == longer else 0)))
        ctx.log.info("nobody keeps this")

    fits, longer = await bench.trigger(talks), await bench.trigger(talks)
    async with bench.working(talks):
        assert await _statuses(bench, fits, longer) == [Status.COMPLETED] * 2
    for run_id, last in ((fits, ["l" * text]), (longer, [])):
        found = [entry.message for entry in await bench.client.runs.log_tail(run_id, lines + 2)]
        mark = "log truncated: the run has reached 10 MiB"
        assert len(found) == lines - 1 + len(last) + 1
        assert found[lines - 1 :] == [*last, mark]


async def _statuses(bench: Bench, *ids: Any) -> list[Status]:
    ended: list[Run] = [await bench.ended(run_id) for run_id in ids]
    return [run.status for run in ended]
