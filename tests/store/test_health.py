"""How runs went: every run is counted once, in its window; the score is the one that is stated."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobdeck.client import Client
from jobdeck.clock import to_us
from jobdeck.errors import NotFound, ValidationError
from jobdeck.model import Job
from jobdeck.states import FailureKind, Status
from jobdeck.statistics import Grouping, Health, Outcomes, health_score, latency_factor
from tests.store.clients import client_of
from tests.store.deck import Deck, team_of

HOUR = timedelta(hours=1)
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


@pytest.fixture
async def client(deck: Deck) -> AsyncIterator[Client]:
    """Ada's client."""
    made = client_of(deck)
    yield made
    made.close()


async def ran(
    deck: Deck,
    client: Client,
    job: Job,
    status: Status,
    seconds: float = 1,
    ago: timedelta | None = None,
    **facts: Any,
) -> None:
    """A run of the job that was made so long ago, and ended so after so many seconds."""
    run = await client.jobs.trigger(job.id)
    made = to_us(run.created_at - (ago or timedelta()))
    await deck.set_run(
        run.id,
        created_at=made,
        started_at=made,
        finished_at=made + int(seconds * 1_000_000),
        status=status,
        **facts,
    )


@pytest.mark.parametrize(
    ("success", "unstable", "latency", "score"),
    [(1, 0, 1, 100), (0, 0, 1, 40), (0, 1, 0, 0), (0.9, 0.1, 0.5, 82), (0.5, 0.25, 1, 65)],
)
def test_the_score(success: float, unstable: float, latency: float, score: float) -> None:
    """100 * (0.6 success + 0.2 (1 - crashes and timeouts) + 0.2 latency)."""
    assert health_score(success, unstable, latency) == pytest.approx(score)


def test_the_latency_factor() -> None:
    """It falls where runs have become slower, and never rises above one."""
    assert latency_factor(2.0, 4.0) == 0.5
    assert latency_factor(4.0, 2.0) == 1
    assert latency_factor(None, 2.0) == latency_factor(2.0, None) == latency_factor(0.0, 2.0) == 1


def test_too_few_runs_have_no_score() -> None:
    """Four ended runs say nothing, five do; cancelled and expired ones do not count."""
    window = (NOON, NOON + HOUR)
    few = Outcomes(completed=4, cancelled=9, expired=9)
    enough = Outcomes(completed=4, failed=1, cancelled=9, expired=9)
    assert Health(*window, few, None).score is None
    assert Health(*window, enough, None).score == pytest.approx(100 * (0.6 * 0.8 + 0.4))


async def test_the_health_of_a_job(client: Client, deck: Deck) -> None:
    """Each end has its count; durations are those of completed runs; p95 is compared with the window before."""
    job = await client.jobs.create("nightly", {"type": "sync"})
    other = await client.jobs.create("other", {"type": "sync"})
    for seconds in range(1, 21):
        await ran(deck, client, job, Status.COMPLETED, seconds)
    await ran(deck, client, job, Status.DEAD, 99, failure_kind=FailureKind.TIMED_OUT)
    await ran(deck, client, job, Status.DEAD, 99, failure_kind=FailureKind.CRASHED)
    await ran(deck, client, job, Status.DEAD, 99, failure_kind=FailureKind.ERROR)
    await ran(deck, client, job, Status.FAILED, 99, failure_kind=FailureKind.INVALID_PARAMS)
    await ran(deck, client, job, Status.CANCELLED, 99)
    await ran(deck, client, job, Status.EXPIRED, 99)
    await client.jobs.trigger(job.id)
    await ran(deck, client, other, Status.FAILED, 99)
    await ran(deck, client, job, Status.COMPLETED, 9.5, ago=HOUR * 1.5)
    await ran(deck, client, job, Status.COMPLETED, 1000, ago=HOUR * 3)
    health = await client.jobs.health(job.id, window=HOUR)
    assert health.outcomes == Outcomes(
        active=1,
        completed=20,
        failed=2,
        timed_out=1,
        crashed=1,
        cancelled=1,
        expired=1,
        average_secs=10.5,
        p95_secs=19,
    )
    assert health.outcomes.total == 27
    assert health.p95_before_secs == 9.5
    assert health.score == pytest.approx(100 * (0.6 * 20 / 24 + 0.2 * 22 / 24 + 0.2 * 9.5 / 19))
    week = await client.jobs.health(job.id)
    assert (week.outcomes.completed, week.p95_before_secs) == (22, None)


async def test_the_statistics_of_a_team(client: Client, deck: Deck) -> None:
    """By status, type and queue; only of the team, and only of the window."""
    job = await client.jobs.create("nightly", {"type": "sync"})
    slow = await client.jobs.create("slow", {"type": "single", "queue": "slow", "max_attempts": 1})
    for seconds in (1, 2, 3):
        await ran(deck, client, job, Status.COMPLETED, seconds)
    await ran(deck, client, slow, Status.FAILED, 5)
    await ran(deck, client, job, Status.COMPLETED, 50, ago=HOUR * 2)
    theirs = client_of(await team_of(deck.database, "globex"))
    await theirs.runs.trigger("sync")
    found = await client.statistics.team(window=HOUR, by=Grouping.TYPE)
    assert {name: (each.total, each.p95_secs) for name, each in found.groups.items()} == {
        "single": (1, None),
        "sync": (3, 3),
    }
    assert (found.total.total, found.total.average_secs, found.total.success_rate) == (4, 2, 0.75)
    assert found.per_hour(found.total) == 4
    by_status = await client.statistics.team(window=HOUR * 3, by=Grouping.STATUS)
    assert {name: each.total for name, each in by_status.groups.items()} == {"completed": 4, "failed": 1}
    by_queue = await client.statistics.team(by=Grouping.QUEUE)
    assert {name: each.judged for name, each in by_queue.groups.items()} == {"default": 4, "slow": 1}
    assert (await theirs.statistics.team()).total == Outcomes(active=1)
    for window in (timedelta(0), timedelta(days=367)):
        with pytest.raises(ValidationError, match="at most 366d"):
            await client.statistics.team(window=window)
    theirs.close()


async def test_the_history_of_a_job(client: Client, deck: Deck) -> None:
    """Its runs and no others, newest first, page by page; a cursor is of one job; other teams know nothing of it."""
    job = await client.jobs.create("nightly", {"type": "sync"})
    other = await client.jobs.create("other", {"type": "sync"})
    made = [(await client.jobs.trigger(job.id)).id for _ in range(5)]
    await client.jobs.trigger(other.id)
    first = await client.jobs.history(job.id, limit=3)
    rest = await client.jobs.history(job.id, limit=3, cursor=first.cursor)
    assert [run.id for run in (*first.runs, *rest.runs)] == made[::-1]
    assert (first.has_more, rest.has_more, rest.cursor) == (True, False, None)
    with pytest.raises(ValidationError, match="cursor"):
        await client.jobs.history(other.id, cursor=first.cursor)
    for limit in (0, 501):
        with pytest.raises(ValidationError, match="1 to 500"):
            await client.jobs.history(job.id, limit=limit)
    theirs = client_of(await team_of(deck.database, "globex"))
    for ask in (theirs.jobs.history, theirs.jobs.health):
        with pytest.raises(NotFound):
            await ask(job.id)
    theirs.close()
