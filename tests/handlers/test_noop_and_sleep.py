"""`noop` and `sleep`: what operators try out a fleet with."""

from __future__ import annotations

import pytest

from jobdeck import Cancelled, CancelReason, GuardedClient, ValidationError
from jobdeck_handlers.noop import noop
from jobdeck_handlers.sleep import sleep
from tests.handlers.context import RecordingContext


@pytest.fixture
def ctx(client: GuardedClient) -> RecordingContext:
    return RecordingContext(client, {})


async def test_noop_echoes(ctx: RecordingContext) -> None:
    """It ends at once, with nothing or with what it was given."""
    assert await noop(ctx, noop.parse({})) == {}
    assert await noop(ctx, noop.parse({"echo": [1, "a"]})) == {"echo": [1, "a"]}


async def test_sleep_waits_in_steps(ctx: RecordingContext) -> None:
    """The time is divided evenly and progress follows."""
    assert await sleep(ctx, sleep.parse({"seconds": 10, "steps": 4})) == {"slept_seconds": 10}
    assert ctx.slept == [2.5] * 4
    assert [(each["processed"], each["total"]) for each in ctx.progresses] == [(n, 4) for n in range(1, 5)]


async def test_sleep_without_steps_reports_nothing(ctx: RecordingContext) -> None:
    """Thousands of short sleeps cost no progress writes."""
    await sleep(ctx, sleep.parse({}))
    assert (ctx.slept, ctx.progresses) == ([1.0], [])


async def test_sleep_fails_when_told_to(ctx: RecordingContext) -> None:
    """`fail` makes an error that is retried like any other."""
    with pytest.raises(RuntimeError, match="told to fail"):
        await sleep(ctx, sleep.parse({"fail": True}))


async def test_sleep_is_cancelled_at_once(ctx: RecordingContext) -> None:
    """A cancel ends it inside the first step."""
    ctx.reason = CancelReason.USER
    with pytest.raises(Cancelled):
        await sleep(ctx, sleep.parse({"seconds": 86_400, "steps": 100}))
    assert len(ctx.slept) == 1


@pytest.mark.parametrize("params", [{"seconds": -1}, {"seconds": 86_401}, {"steps": 0}, {"second": 1}])
def test_wrong_params_are_refused(params: dict[str, float]) -> None:
    """Out of range and misspelt params are refused."""
    with pytest.raises(ValidationError):
        sleep.parse(params)
