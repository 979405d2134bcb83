"""Filters of lists: each alone, together, and with text that would be a pattern if it were not taken literally."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobdeck.bulk import BulkKind
from jobdeck.errors import ValidationError
from jobdeck.model import Progress, RunFilter
from jobdeck.states import AttemptOutcome, Label, Status
from jobdeck.store.leases import Beat, beat
from jobdeck.store.leases import report as store_report
from jobdeck.store.lists import routes
from jobdeck.store.lists.counts import counts
from jobdeck.store.queues import NewQueue, create_queue
from tests.store.clients import client_of
from tests.store.deck import WORKER, Deck, report
from tests.store.fleet import SYNC, join
from tests.store.pulling import QUEUE, park


async def names(deck: Deck, **chosen: Any) -> list[str]:
    """Names of the runs that the filter shows, newest first."""
    return [run.name for run in await deck.page(RunFilter(**chosen))]


async def one_of_each(deck: Deck) -> None:
    """A run for every stored status and every label, and more than one where a label has several ways."""
    await join(deck.database, SYNC, queues=("default",))
    for status in Status:
        await deck.set_run(
            await deck.with_status(status), name=status, queue="other" if status == "pending" else "x"
        )
    scheduled = await deck.enqueue(name="scheduled", delay=timedelta(hours=1))
    assert scheduled
    again = await deck.started(name="retrying", priority=1)
    await deck.finish(again, AttemptOutcome.ERROR, retry_in_us=3_600_000_000)
    asked = await deck.started(name="cancelling", priority=1)
    await deck.cancel(asked.id)
    blocked = await deck.started(name="blocked", priority=1)
    blocked_and_asked = await deck.started(name="blocked and asked", priority=1)
    await deck.cancel(blocked_and_asked.id)
    runs = (blocked.id, blocked_and_asked.id)
    await deck.database.write(beat, Beat(WORKER, runs, 30_000_000, True, 2, 0, "live"))
    silent = await deck.started(name="silent", priority=1)
    moving = report(silent, progress=silent_progress(), gap=timedelta(milliseconds=5))
    await deck.database.write(store_report, moving)
    parked = await deck.started(name="parked", priority=1)
    await park(deck.database, parked.id, parked.fence, "digest")
    outside = NewQueue(deck.scope.team_id, QUEUE, pull=True, description="", actor="ada")
    await deck.database.write(create_queue, outside)
    await deck.enqueue(name="for a program", queue=QUEUE)
    deck.forward(31)
    await join(deck.database, SYNC, queues=("default",))
    await deck.enqueue(name="served")
    await deck.enqueue(name="nobody", job_type="unknown")


def silent_progress() -> Any:
    return Progress(1)


async def test_every_status_and_label_shows_exactly_its_runs(deck: Deck) -> None:
    """For each stored status and each label the filter shows those runs whose record says so, and no others."""
    await one_of_each(deck)
    everything = await deck.page()
    assert {run.status for run in everything} == set(Status)
    assert {run.label for run in everything} >= set(Label)
    for status in Status:
        wanted = [run.id for run in everything if run.status is status]
        assert [run.id for run in await deck.page(RunFilter(statuses=frozenset({status})))] == wanted, status
    for label in Label:
        wanted = [run.id for run in everything if run.label == label]
        assert wanted
        assert [run.id for run in await deck.page(RunFilter(statuses=frozenset({label})))] == wanted, label


async def test_several_statuses_are_joined(deck: Deck) -> None:
    """Statuses and labels in one filter show the runs that have any of them."""
    await one_of_each(deck)
    chosen = frozenset({Status.COMPLETED, Status.DEAD, Label.SCHEDULED})
    assert sorted(await names(deck, statuses=chosen)) == ["completed", "dead", "scheduled"]


async def test_held_without_any_worker(deck: Deck) -> None:
    """Where nobody is alive every due run is held, whatever its type."""
    await deck.enqueue(name="a")
    await deck.enqueue(name="b", job_type="other")
    await deck.enqueue(name="later", delay=timedelta(hours=1))
    assert await names(deck, statuses=frozenset({Label.HELD})) == ["b", "a"]


async def test_a_word_that_is_no_status(deck: Deck) -> None:
    """It is refused with the words that are."""
    with pytest.raises(
        ValidationError, match="'runing' is not a status; choose from awaiting_approval, pending"
    ):
        await names(deck, statuses=frozenset({"runing"}))


async def test_each_filter_alone_and_all_together(deck: Deck) -> None:
    """Type, queue, category and project are compared whole; all parts must hold."""
    await deck.enqueue(name="plain")
    await deck.enqueue(name="type", job_type="mail")
    await deck.enqueue(name="queue", queue="slow")
    await deck.enqueue(name="category", category="export")
    await deck.enqueue(name="trigger", trigger_type="delayed", job_type="wait")
    await deck.enqueue(name="no project", project_id=None)
    assert await names(deck, trigger_type="delayed") == ["trigger"]
    assert await names(deck, trigger_type="scheduled") == []
    assert await names(deck, job_type="mail") == ["type"]
    assert await names(deck, queue="slow") == ["queue"]
    assert await names(deck, category="export") == ["category"]
    assert await names(deck, project="main") == ["trigger", "category", "queue", "type", "plain"]
    assert await names(deck, project="mai") == await names(deck, job_type="Mail") == []
    together = {"job_type": "sync", "queue": "default", "category": "sync", "project": "main"}
    together |= {"trigger_type": "immediate"}
    assert await names(deck, **together, statuses=frozenset({Status.PENDING})) == ["plain"]
    assert await names(deck, **together, statuses=frozenset({Status.RUNNING})) == []


async def test_a_time_window_has_both_ends_in_it(deck: Deck) -> None:
    """`since` and `until` are inclusive, to the microsecond."""
    for name in ("old", "middle", "new"):
        await deck.enqueue(name=name)
        deck.forward(60)
    at = {run.name: run.created_at for run in await deck.page()}
    tick = timedelta(microseconds=1)
    assert await names(deck, since=at["middle"]) == ["new", "middle"]
    assert await names(deck, since=at["middle"] + tick) == ["new"]
    assert await names(deck, until=at["middle"]) == ["middle", "old"]
    assert await names(deck, until=at["middle"] - tick) == ["old"]
    assert await names(deck, since=at["middle"], until=at["middle"]) == ["middle"]


async def test_extremes_of_time(deck: Deck) -> None:
    """The first and the last time there is are answered like any other."""
    await deck.enqueue(name="a")
    first, last = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    assert await names(deck, since=first) == await names(deck, until=last) == ["a"]
    assert await names(deck, until=first) == await names(deck, since=last) == []


FOUND: dict[str, list[str]] = {
    "alpha": ["Alpha 100% done"],
    "ALPHA": ["Alpha 100% done"],
    "100%": ["Alpha 100% done"],
    "%": ["Alpha 100% done"],
    "_": ["under_score"],
    "a_c": [],
    "\\": ["back\\slash"],
    "/": ["sl/ash"],
    "'; DROP TABLE runs; --": [],
    "sync": ["sl/ash", "back\\slash", "under_score", "abc", "Alpha 100% done"],
    "zzz": [],
}


async def test_text_is_found_literally(deck: Deck) -> None:
    """A substring of name or job type, whatever the case; signs that mean something to LIKE mean themselves."""
    for name in ("Alpha 100% done", "abc", "under_score", "back\\slash", "sl/ash"):
        await deck.enqueue(name=name)
    assert {text: await names(deck, text=text) for text in FOUND} == FOUND


async def test_text_of_another_script(deck: Deck) -> None:
    """Capital and small letters beyond ASCII are the same letter on both databases."""
    await deck.enqueue(name="ÄPFEL für Ω")
    for text in ("äpfel", "ÄPFEL", "FÜR", "ω"):
        assert await names(deck, text=text) == ["ÄPFEL für Ω"], text


async def test_text_in_the_last_message(deck: Deck) -> None:
    """What an ended run said last is searched too."""
    claimed = await deck.started(name="a")
    last = report(claimed, progress=Progress(1, message="Synced 180 users"))
    await deck.finish(claimed, last_report=last)
    assert await names(deck, text="180 USERS") == ["a"]


async def test_system_jobs_are_shown_only_when_asked_for(deck: Deck) -> None:
    """Types that begin with `system.` are left out unless the filter names the type; similar names are not."""
    for job_type in ("system.cleanup", "systematic", "System.report", "my.system.job"):
        await deck.enqueue(name=job_type, job_type=job_type)
    assert await names(deck) == ["my.system.job", "System.report", "systematic"]
    assert await names(deck, job_type="system.cleanup") == ["system.cleanup"]
    assert await deck.database.read(counts, deck.scope) == {"pending": 3}


async def test_the_runs_of_a_job_are_found_among_any_number_of_others(
    deck: Deck, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are read along the job's own index: others that are newer do not use up what a page may look at. Together
    with other parts of a filter too, and in an act on all that match."""
    client = client_of(deck)
    job = await client.jobs.create("nightly", {"type": "sync"})
    wanted = [(await client.jobs.trigger(job.id, name=name)).id for name in ("one", "two")]
    await deck.enqueue_many(20, trigger_type="delayed")
    for name in ("PAGE_LOOKS", "PAGE_LOOKS_SCATTERED"):
        monkeypatch.setattr(routes, name, 5)
    page = await client.runs.page(RunFilter(job_id=job.id))
    assert ({run.id for run in page.runs}, page.stopped) == (set(wanted), None)
    assert await names(deck, job_id=job.id, text="on") == ["one"]
    assert await names(deck, job_id=job.id, job_type="sync", statuses=frozenset({"completed"})) == []

    async def count(**chosen: Any) -> int:
        return (await client.bulk.plan(BulkKind.CANCEL, RunFilter(**chosen))).total

    assert [await count(job_id=job.id), await count(trigger_type="delayed")] == [2, 20]
    assert await count(job_id=job.id, trigger_type="delayed") == 0
    client.close()
