"""No attempt is left without an end, whatever its row or its handler's exception does to whoever looks at it."""

from __future__ import annotations

import asyncio
from typing import Any, cast
from uuid import UUID

import pytest

from jobdeck import Context, handler
from jobdeck.engine.heart import Heart, Vitals
from jobdeck.engine.pump import Pump
from jobdeck.states import Status
from jobdeck.testing import FakeClock
from tests.engine.bench import Bench


@pytest.mark.parametrize("kind", [RuntimeError, SystemExit, KeyboardInterrupt])
async def test_an_exception_that_cannot_be_told(bench: Bench, kind: type[BaseException]) -> None:
    """To ask it for its words raises again, and what it raises is no Exception."""

    class Bottomless(Exception):
        def __str__(self) -> str:
            raise kind

    @handler("work", max_attempts=1)
    async def work(ctx: Context) -> None:
        raise Bottomless

    run = await bench.outcome(work)
    assert (run.status, run.failure_kind) == (Status.FAILED, "error")


async def test_a_backoff_of_a_hundred_thousand_levels(bench: Bench) -> None:
    """Python gives up on it with an error of its own; the backoff of the job type counts then."""

    @handler("fails", max_attempts=1)
    async def fails(ctx: Context) -> None:
        raise RuntimeError

    run_id = await bench.trigger(fails)
    await bench.set_run(run_id, backoff="[" * 100_000)
    async with bench.working(fails):
        assert (await bench.ended(run_id)).status is Status.FAILED


async def test_an_outcome_that_cannot_be_written_down_ends_the_worker(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It must not hold the run for ever, in silence."""

    @handler("work")
    async def work(ctx: Context) -> None: ...

    def broken(*_: object) -> None:
        raise ZeroDivisionError("a bug in the pump")

    monkeypatch.setattr(Pump, "_trace", broken)
    await bench.trigger(work)
    async with asyncio.timeout(20):
        with pytest.raises(ZeroDivisionError, match="a bug in the pump"):
            await bench.worker(work).run()


class _Body:
    """Holds nothing."""

    def __init__(self) -> None:
        self.executions: dict[Any, Any] = {}

    def held_runs(self) -> tuple[UUID, ...]:
        return ()

    def vitals(self) -> Vitals:
        return Vitals("live", 0, 0)


class _Answers:
    """A database whose answers to beats the test gives, in any order."""

    def __init__(self) -> None:
        self.asked: list[asyncio.Future[list[Any]]] = []

    async def write(self, _verb: Any, _item: Any) -> list[Any]:
        self.asked.append(asyncio.get_running_loop().create_future())
        return await self.asked[-1]


async def test_beats_that_are_answered_in_another_order() -> None:
    """What the later one has confirmed the earlier one does not take back: no run is stopped for it."""
    clock, database, lost = FakeClock(), _Answers(), []

    class _Watched(Heart):
        def _lose(self, execution: Any) -> None:
            lost.append(execution)

    class _Run:
        claimed_at = clock.monotonic()

    body = _Body()
    heart = _Watched(cast(Any, database), UUID(int=1), lease=30, clock=clock, loop=cast(Any, None), body=body)
    first = asyncio.create_task(heart.beat())
    await asyncio.sleep(0)
    clock.advance(20)
    second = asyncio.create_task(heart.beat())
    await asyncio.sleep(0)
    database.asked[1].set_result([])
    await second
    database.asked[0].set_result([])
    await first
    clock.advance(15)
    body.executions = {1: _Run()}
    heart.watch_silence()
    assert not lost
