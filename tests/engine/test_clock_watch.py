"""The database's clock is set while runs are under way: no live worker loses one, and dead ones' are taken over."""

from __future__ import annotations

import logging
import re

import pytest
from sqlalchemy import Connection

from jobdeck import Context, handler
from jobdeck.clock import Clock, SystemClock
from jobdeck.engine.clock_watch import ClockWatch
from jobdeck.ids import new_id
from jobdeck.model import Run
from jobdeck.store.database import Database
from jobdeck.store.fleet import Leave, Register, leave, register
from jobdeck.testing import FakeClock
from tests.engine.bench import Bench, is_running, outcomes
from tests.engine.gate import Gate

TWO_HOURS = 2 * 3_600.0
LEASE = 30.0


class TwoPaced:
    """The machine's clock, ahead by what the test adds: time goes on and sleeps are as they are."""

    def __init__(self) -> None:
        self._inner = SystemClock()
        self.ahead = 0.0

    def wall_us(self) -> int:
        return self._inner.wall_us()

    def monotonic(self) -> float:
        return self._inner.monotonic() + self.ahead

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)


def _watch(database: Database, clock: Clock) -> ClockWatch:
    return ClockWatch(database, clock, new_id(), LEASE)


def _pass(database: Database, clock: FakeClock, seconds: float) -> None:
    """Time goes by, for all clocks."""
    clock.advance(seconds)
    database.offset_us += int(seconds * 1_000_000)


async def _seconds_steady(watch: ClockWatch) -> float | None:
    steady = (await watch.look()).steady_us
    return None if steady is None else steady / 1_000_000


async def test_time_that_goes_by_is_no_jump(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    """However long it is between two looks: nothing is doubted, nothing is said."""
    clock = FakeClock()
    watch = _watch(database, clock)
    for seconds in (0, 10, 3_600, 1.5):
        _pass(database, clock, seconds)
        look = await watch.look()
        assert look.steady_us is None
        assert abs(look.now - await database.read(database.now_of)) < 1_000_000
    assert "has been set" not in caplog.text


@pytest.mark.parametrize("jump", [6.0, TWO_HOURS])
async def test_a_jump_ahead_begins_a_new_time(
    database: Database, caplog: pytest.LogCaptureFixture, jump: float
) -> None:
    """It is told once, and from then on it is known how long workers have had to beat; a second jump begins anew."""
    clock = FakeClock()
    watch = _watch(database, clock)
    assert await _seconds_steady(watch) is None
    for _ in range(2):
        database.offset_us += int(jump * 1_000_000)
        assert await _seconds_steady(watch) == 0
        for passed in (10, 20, 30):
            _pass(database, clock, 10)
            assert await _seconds_steady(watch) == passed
    told = [
        int(seconds) for seconds in re.findall(r"the database's clock has been set by \+(\d+) s", caplog.text)
    ]
    # Real time goes by as well, for the database alone.
    assert len(told) == 2
    assert all(jump <= seconds <= jump + 5 for seconds in told)


async def test_a_jump_back_ends_no_lease(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    """It is told, and recovery waits for nothing."""
    watch = _watch(database, FakeClock())
    await watch.look()
    database.offset_us -= 300_000_000
    assert await _seconds_steady(watch) is None
    assert "the database's clock has been set by -300 s" in caplog.text


async def test_an_answer_that_took_long_is_no_jump(
    database: Database, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows when in those 20 seconds the database looked at its clock."""
    clock = FakeClock()
    watch = _watch(database, clock)
    now_of = database.now_of
    for before, after in ((0, 20), (20, 0), (20, 0), (0, 20), (0, 0)):

        def slow(conn: Connection, before: float = before, after: float = after) -> int:
            _pass(database, clock, before)
            now = now_of(conn)
            _pass(database, clock, after)
            return now

        monkeypatch.setattr(database, "now_of", slow)
        assert (await watch.look()).steady_us is None
    assert "has been set" not in caplog.text


async def test_a_new_worker_leaves_it_to_those_who_have_seen_more(database: Database) -> None:
    """While another one is alive it trusts the clock for no longer than it has been here itself, for a lease."""
    other = new_id()
    item = Register(other, "host", 1, "1", (), 1, int(10 * LEASE * 1_000_000), (), ())
    await database.write(register, item)
    clock = FakeClock()
    for left in (False, True):
        watch = _watch(database, clock)
        _pass(database, clock, 20)
        assert await _seconds_steady(watch) == 20
        if left:
            await database.write(leave, Leave(other))
        else:
            _pass(database, clock, 11)
        assert await _seconds_steady(watch) is None


@handler("long")
async def long(ctx: Context) -> int:
    """Until its gate opens; the second attempt at once."""
    if ctx.attempt == 1:
        _gates[0].open()
        await _gates[1].passed()
        await ctx.verify_lease()
    return ctx.attempt


_gates: list[Gate] = []


@pytest.fixture(autouse=True)
def _fresh_gates() -> None:
    _gates[:] = [Gate(), Gate()]


async def test_live_runs_survive_a_jump(bench: Bench) -> None:
    """Two hours ahead: neither worker takes the run, its lease is extended by the next beat, it completes once."""
    run_id = await bench.trigger(long)
    async with bench.working(long) as first, bench.working(long) as second:
        await _gates[0].passed()
        # Each has looked at the clock once.
        assert [await each.rounds.recover() for each in (first, second)] == [0, 0]
        bench.skip(TWO_HOURS)
        for _ in range(2):
            assert [await each.rounds.recover() for each in (first, second)] == [0, 0]
        assert await first.heart.beat()
        assert is_running(await bench.run(run_id))
        _gates[1].open()
        done = await bench.ended(run_id)
    assert (done.result, outcomes(done)) == (1, ["completed"])


async def test_a_lease_is_verified_before_the_next_beat(bench: Bench) -> None:
    """Right after the jump a handler that asks whether it still holds its run is told the truth: nobody took it."""
    run_id = await bench.trigger(long)
    async with bench.working(long):
        await _gates[0].passed()
        bench.skip(TWO_HOURS)
        _gates[1].open()
        done = await bench.ended(run_id)
    assert (done.result, outcomes(done)) == (1, ["completed"])


async def test_a_dead_worker_s_run_is_taken_over_a_lease_after_the_jump(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """Not before, for until then it might be alive; and after that at the first look."""
    caplog.set_level(logging.WARNING)
    run_id = await bench.trigger(long)
    silent, clock = FakeClock(), TwoPaced()
    async with bench.working(long, parts={"clock": silent}):
        await _gates[0].passed()
        async with bench.working(long, parts={"clock": clock}) as living:
            await living.rounds.recover()
            bench.skip(TWO_HOURS)
            assert await living.rounds.recover() == 0
            for seconds, taken in ((LEASE - 1, 0), (1, 1)):
                clock.ahead += seconds
                bench.database.offset_us += int(seconds * 1_000_000)
                assert await living.rounds.recover() == taken
            done = await bench.ended(run_id)
            _gates[1].open()
    assert (done.result, outcomes(done)) == (2, ["crashed", "completed"])


async def test_without_a_jump_recovery_waits_for_nothing(bench: Bench) -> None:
    """As soon as the lease is over by all clocks, the run is taken over at the first look."""
    run_id = await bench.trigger(long)
    clock = TwoPaced()
    async with bench.working(long, parts={"clock": FakeClock()}):
        await _gates[0].passed()
        async with bench.working(long, parts={"clock": clock}) as living:
            await living.rounds.recover()
            clock.ahead += LEASE + 1
            bench.database.offset_us += int((LEASE + 1) * 1_000_000)
            assert await living.rounds.recover() == 1
            done: Run = await bench.ended(run_id)
            _gates[1].open()
    assert outcomes(done) == ["crashed", "completed"]


async def test_a_worker_that_slept_through_its_lease_does_not_get_it_back(bench: Bench) -> None:
    """Its own clock went on, as that of a stopped process does: its beat is late, and its handler is told."""
    run_id = await bench.trigger(long)
    clock = TwoPaced()
    async with bench.working(long, parts={"clock": clock}, concurrency=1) as worker:
        await _gates[0].passed()
        clock.ahead += LEASE + 1
        bench.database.offset_us += int((LEASE + 1) * 1_000_000)
        assert await worker.heart.beat()
        await worker.rounds.recover()
        done = await bench.ended(run_id)
    assert outcomes(done) == ["crashed", "completed"]
