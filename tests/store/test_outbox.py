"""Notifications are written down with the end they tell of, taken by one sender at a time, and never made twice."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, event

from jobdeck import limits
from jobdeck.errors import Conflict, NotFound
from jobdeck.ids import new_id, show_id
from jobdeck.model import JobRef, RunExtras
from jobdeck.notifiers import DeliveryState
from jobdeck.states import AttemptOutcome, Condition, Status
from jobdeck.store import finish as finish_module
from jobdeck.store.approvals import Decide, reject
from jobdeck.store.claim import ClaimedRun
from jobdeck.store.database import Database
from jobdeck.store.expiry import Expire, expire
from jobdeck.store.jobs.definitions import NewJob, create_jobs
from jobdeck.store.outbox.deliveries import deliveries_like, find_delivery, list_deliveries
from jobdeck.store.outbox.letters import (
    Fate,
    GiveBack,
    Parcel,
    Resend,
    Take,
    Tried,
    abandon,
    anything_due,
    give_back,
    resend,
    take,
    tell,
)
from jobdeck.store.outbox.webhooks import (
    EnableEndpoint,
    Rotate,
    enable_endpoint,
    list_disabled,
    list_secrets,
    rotate,
)
from jobdeck.store.schema import disabled_webhooks, job_versions, outbox
from jobdeck.verdict import Ending
from tests.databases import opened
from tests.store.deck import Deck, execute_statement, good, team_of

URL = "https://hooks.example.com/ended?key=k"
LEASE_US = 60_000_000
MAIL_OF_FAILURES = {"type": "email", "to": ["a@example.com"], "on": ["failed"]}
CHANNELS = ("callback", "webhook", "email")


def telling(url: str | None = URL, **facts: Any) -> RunExtras:
    """What makes a run tell how it ends."""
    return RunExtras(callback_url=url, announces=True, **facts)


async def taken(
    deck: Deck, limit: int = 8, busy: Mapping[str, int] | None = None, channels: tuple[str, ...] = CHANNELS
) -> list[Parcel]:
    """What a sender gets."""
    return await deck.database.write(take, Take(channels, limit, LEASE_US, busy or {}))


async def told(deck: Deck, parcel: Parcel, fate: Fate, wait: float = 0.0, **facts: Any) -> bool:
    """A sender tells."""
    item = Tried(parcel.id, parcel.tries, fate, wait_us=int(wait * 1_000_000), **facts)
    return await deck.database.write(tell, item)


async def state_of(deck: Deck, parcel: Parcel) -> tuple[str, int]:
    (row,) = await deck.rows(outbox, id=parcel.id)
    return row["state"], row["tries"]


async def ended(deck: Deck, outcome: AttemptOutcome = AttemptOutcome.COMPLETED, **ending: Any) -> ClaimedRun:
    """A run that tells, and has ended."""
    run = await deck.started(extras=telling(), max_attempts=1)
    await deck.finish(run, outcome, **ending)
    return run


async def job_with(deck: Deck, **facts: Any) -> UUID:
    """A saved job with these in its definition."""
    definition = json.dumps({"type": "sync", **facts})
    new = NewJob(
        new_id(),
        deck.scope.team_id,
        deck.project.id,
        f"job-{new_id().hex[-6:]}",
        "sync",
        "",
        definition,
        "ada",
    )
    (job_id,) = await deck.database.write(create_jobs, [new])
    return job_id


async def rewrite(deck: Deck, job_id: UUID, definition: str) -> None:
    """Put this text in place of the job's definition, whatever it is."""
    changed = job_versions.update().where(job_versions.c.job_id == job_id).values(definition=definition)
    await deck.database.write(execute_statement, changed)


async def end_of_job(
    deck: Deck, job_id: UUID, status: Status, *, notify: bool = False
) -> list[tuple[str, str]]:
    """Whom an end of a run of this job is told to."""
    ref = JobRef(job_id, 1, None)
    run_id = await deck.enqueue(extras=RunExtras(job=ref, announces=True), notify=notify, max_attempts=1)
    await _bring_to(deck, run_id, status)
    rows = await deck.rows(outbox, run_id=run_id)
    return sorted((row["channel"], row["endpoint"]) for row in rows)


async def _bring_to(deck: Deck, run_id: UUID, status: Status) -> None:
    if status is Status.CANCELLED:
        await deck.cancel(run_id)
        return
    (run,) = await deck.claim()
    outcome = AttemptOutcome.COMPLETED if status is Status.COMPLETED else AttemptOutcome.ERROR
    await deck.finish(run, outcome)
    if status is Status.DEAD:
        (run,) = await deck.claim()
        await deck.finish(run, outcome)


# -- written down ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [Status.COMPLETED, Status.FAILED, Status.DEAD, Status.CANCELLED])
async def test_every_end_is_written_down(deck: Deck, status: Status) -> None:
    """With what happened and when, under an id that receivers will see; params are no part of it."""
    attempts = 2 if status is Status.DEAD else 1
    run_id = await deck.enqueue(extras=telling(), max_attempts=attempts, params='{"token":"t0p"}')
    await _bring_to(deck, run_id, status)
    (row,) = await deck.rows(outbox, run_id=run_id)
    body = json.loads(row["body"])
    run = await deck.show(run_id)
    assert run.status is status
    assert (row["event"], row["channel"], row["endpoint"]) == (f"run.{status}", "callback", URL)
    assert (body["type"], body["data"]["run_id"]) == (f"run.{status}", run.shown_id)
    assert {name: body["data"][name] for name in ("team", "project", "job", "job_type", "status", "attempt")} == {
        "team": "acme", "project": "main", "job": None, "job_type": "sync", "status": status, "attempt": run.attempt,
    }  # fmt: skip
    assert "t0p" not in row["body"]
    assert body["timestamp"].endswith("Z")
    assert row["receiver"] == "hooks.example.com"


async def test_ends_without_a_beginning_are_written_down(deck: Deck) -> None:
    """Expired, rejected, given up because of another run: each in the transaction that ends it."""
    expires = await deck.enqueue(extras=telling(ttl=timedelta(microseconds=1)))
    await deck.database.write(expire, Expire("test"))
    rejected = await deck.enqueue(extras=telling(requires_approval=True))
    await deck.database.write(reject, Decide(deck.scope.team_id, rejected, "bob", "no"))
    first = await deck.enqueue(max_attempts=1)
    waits = await deck.enqueue(extras=telling(after=((first, Condition.COMPLETED),)))
    await _bring_to(deck, first, Status.FAILED)
    found = {row["run_id"]: json.loads(row["body"])["data"] for row in await deck.rows(outbox)}
    assert {run: (data["status"], data["failure_kind"]) for run, data in found.items()} == {
        expires: ("expired", None),
        rejected: ("cancelled", "rejected"),
        waits: ("cancelled", "dependency"),
    }


async def test_a_crash_is_told_of_once_it_is_the_last(deck: Deck) -> None:
    """Recovery gives a run back without a word, until its crashes are used up."""
    await deck.enqueue(extras=telling())
    for crash in range(limits.CRASH_BUDGET):
        assert await deck.rows(outbox) == []
        (run,) = await deck.claim()
        deck.forward(31)
        (end,) = await deck.recover()
        assert end.status is (Status.DEAD if crash == limits.CRASH_BUDGET - 1 else Status.PENDING)
        assert run.attempt == crash + 1
    (row,) = await deck.rows(outbox)
    assert json.loads(row["body"])["data"]["failure_kind"] == "crashed"


async def test_a_run_that_tells_nobody_costs_nothing(deck: Deck, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its end asks the database nothing more."""
    asked: list[int] = []
    monkeypatch.setattr(finish_module, "announce", lambda _tx, run_ids: asked.append(len(run_ids)))
    await deck.finish(await deck.started())
    await deck.finish(await deck.started(extras=telling()))
    assert asked == [0, 1]


async def test_a_failed_end_leaves_no_notification(deck: Deck, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are one transaction: where the end is taken back, nobody is told of it."""
    run = await deck.started(extras=telling(), max_attempts=1)

    def broken(*_: Any) -> None:
        raise RuntimeError("after the notification")

    monkeypatch.setattr(finish_module, "let_go", broken)
    with pytest.raises(RuntimeError, match="after the notification"):
        await deck.finish(run)
    assert (await deck.show(run.id)).status is Status.RUNNING
    assert await deck.rows(outbox) == []


async def test_an_end_is_told_once_and_a_second_one_again(deck: Deck) -> None:
    """A run that is retried and ends again is news; one that is cancelled again without having begun is none."""
    first = await ended(deck, AttemptOutcome.ERROR, error="no")
    await deck.retry(first.id)
    (again,) = await deck.claim()
    await deck.finish(again, AttemptOutcome.ERROR)
    assert [row["fence"] for row in sorted(await deck.rows(outbox), key=lambda row: row["fence"])] == [1, 2]
    for _ in range(2):
        await deck.retry(first.id)
        await deck.cancel(first.id)
    events = sorted((row["event"], row["fence"]) for row in await deck.rows(outbox))
    assert events == [("run.cancelled", 2), ("run.failed", 1), ("run.failed", 2)]


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (Status.COMPLETED, [("pager", "crew"), ("webhook", "https://a.example.com/")]),
        (Status.FAILED, [("email", "ops@example.com, b@example.com"), ("pager", "crew"), ("webhook", "https://a.example.com/")]),
        (Status.CANCELLED, [("webhook", "https://a.example.com/")]),
    ],
)  # fmt: skip
async def test_a_job_says_who_is_told_of_what(
    deck: Deck, status: Status, expected: list[tuple[str, str]]
) -> None:
    """`webhook_url` hears of every end, a notifier of what stands in its `on`, by default completed and failed."""
    job_id = await job_with(deck)
    notifiers: list[dict[str, Any]] = [
        {"type": "pager", "target": "crew"},
        {"type": "email", "to": ["ops@example.com", "b@example.com"], "on": ["failed"]},
        {"type": "of_a_newer_jobdeck", "colour": "red"},
    ]
    facts = {"type": "sync", "webhook_url": "https://a.example.com/", "notifiers": notifiers}
    await rewrite(deck, job_id, json.dumps(facts))
    assert await end_of_job(deck, job_id, status) == expected


@pytest.mark.parametrize(
    ("notifiers", "status", "expected"),
    [
        ([], Status.COMPLETED, [("email", "team")]),
        ([], Status.FAILED, [("email", "team")]),
        ([], Status.CANCELLED, []),
        ([MAIL_OF_FAILURES], Status.COMPLETED, [("email", "a@example.com")]),
    ],
)
async def test_notify_sends_mail_to_the_job_or_else_the_team(
    deck: Deck, notifiers: list[Any], status: Status, expected: list[tuple[str, str]]
) -> None:
    """When it completes or fails; the addresses of the job, whatever they hear of otherwise, else those of the team."""
    job_id = await job_with(deck, notifiers=notifiers)
    assert await end_of_job(deck, job_id, status, notify=True) == expected


@pytest.mark.parametrize("definition", ["{", "[]", '{"notifiers": 5}', '{"notifiers": [7]}'])
async def test_a_run_ends_whatever_its_job_says(deck: Deck, definition: str) -> None:
    """A definition that is spoilt keeps nothing from ending."""
    job_id = await job_with(deck)
    await rewrite(deck, job_id, definition)
    assert await end_of_job(deck, job_id, Status.COMPLETED) == []


async def test_a_result_goes_to_the_callback_alone(deck: Deck) -> None:
    """And where it is larger than what receivers take, it is left out and that is said."""
    job_id = await job_with(deck, webhook_url="https://a.example.com/")
    large = json.dumps("x" * limits.TOLD_RESULT_BYTES)
    for result, told_as in (('{"n": "\\ud800"}', {"n": "\ud800"}), (large, None)):
        extras = telling(job=JobRef(job_id, 1, None))
        await deck.finish(await deck.started(extras=extras), result=result)
        rows = [row for row in await deck.rows(outbox) if row["state"] == "pending"]
        bodies = {row["channel"]: json.loads(row["body"])["data"] for row in rows}
        assert "result" not in bodies["webhook"]
        assert bodies["callback"]["result"] == told_as
        assert ("result_omitted" in bodies["callback"]) is (told_as is None)
        for parcel in await taken(deck):
            await told(deck, parcel, Fate.DELIVERED)


# -- on their way ---------------------------------------------------------------------------------------------------


async def test_one_sender_has_it_at_a_time(deck: Deck) -> None:
    """It is due at once, then nobody else's until the sender's time is over; then it is the same, to the byte."""
    await ended(deck)
    (first,) = await taken(deck)
    assert await taken(deck) == []
    deck.forward(61)
    (second,) = await taken(deck)
    assert (second.id, second.body, second.message_id) == (first.id, first.body, first.message_id)
    assert second.tries == 2
    assert await told(deck, first, Fate.FAILED, error="late") is False
    assert await state_of(deck, first) == ("sending", 2)
    assert await told(deck, second, Fate.DELIVERED, code=200) is True
    assert await state_of(deck, first) == ("delivered", 2)
    assert await told(deck, second, Fate.FAILED) is False
    deck.forward(3_600)
    assert await taken(deck) == []


async def test_senders_that_come_together_share(database_url: str) -> None:
    """Of 40 notifications each goes to one of four senders."""
    async with opened(database_url) as one, opened(database_url) as two:
        decks = [await team_of(one, "acme")]
        decks.append(Deck(two, decks[0].scope, decks[0].project))
        for number in range(40):
            extras = telling(f"https://h{number}.example.com/")
            await decks[0].finish(await decks[0].started(extras=extras))
        both = [*decks, *decks]
        found = await asyncio.gather(*(taken(deck, 10) for deck in both))
        ids = [parcel.id for parcels in found for parcel in parcels]
        for deck in both:
            ids += [parcel.id for parcel in await taken(deck, 40)]
        assert len(ids) == len(set(ids)) == 40


async def test_it_is_tried_again_when_it_is_due_and_not_for_ever(deck: Deck) -> None:
    """Each wait is kept; the last failed try ends it, and so does a last sender that falls silent."""
    await ended(deck)
    for number in range(limits.DELIVERY_TRIES):
        (parcel,) = await taken(deck)
        assert await told(deck, parcel, Fate.AGAIN, wait=100, code=503, error="busy") is True
        last = number == limits.DELIVERY_TRIES - 1
        assert await state_of(deck, parcel) == ("failed" if last else "pending", number + 1)
        assert await taken(deck) == []
        deck.forward(101)
    assert await taken(deck) == []
    await deck.database.write(resend, Resend(deck.scope.team_id, parcel.id))
    for number in range(limits.DELIVERY_TRIES):
        (again,) = await taken(deck)
        assert (again.message_id, again.body) == (parcel.message_id, parcel.body)
        assert again.tries == limits.DELIVERY_TRIES + number + 1
        deck.forward(61)
    assert await taken(deck) == []
    assert (await state_of(deck, parcel))[0] == "failed"


async def test_what_is_given_back_is_there_at_once(deck: Deck) -> None:
    """A sender that stops leaves it to others; the try counts, for it may have arrived."""
    await ended(deck)
    (parcel,) = await taken(deck)
    await deck.database.write(give_back, GiveBack(parcel.id, parcel.tries))
    (again,) = await taken(deck)
    assert again.tries == 2
    await deck.database.write(give_back, GiveBack(parcel.id, parcel.tries))
    assert await taken(deck) == []


async def test_a_receiver_has_few_places(deck: Deck) -> None:
    """What goes to a slow host leaves places for what goes elsewhere."""
    for number in range(5):
        await deck.finish(await deck.started(extras=telling(f"https://slow.example.com/{number}")))
    await deck.finish(await deck.started(extras=telling("https://quick.example.com/")))
    most = limits.DELIVERY_PER_RECEIVER
    first = await taken(deck)
    assert sorted(parcel.receiver for parcel in first) == ["quick.example.com", *["slow.example.com"] * most]
    assert await taken(deck, busy={"slow.example.com": most}) == []
    assert len(await taken(deck, busy={"slow.example.com": most - 1})) == 1


async def test_only_bodies_that_are_sent_are_read(deck: Deck) -> None:
    """However many are looked at: bodies are large, and on SQLite nobody else writes meanwhile."""
    for number in range(12):
        await deck.finish(await deck.started(extras=telling(f"https://h{number}.example.com/")))
    read: list[str] = []

    def hear(_conn: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "outbox.body" in statement:
            read.append(statement)

    event.listen(Engine, "before_cursor_execute", hear)
    try:
        found = await taken(deck, 2)
    finally:
        event.remove(Engine, "before_cursor_execute", hear)
    assert len({parcel.body for parcel in found}) == len(found) == 2
    (statement,) = read
    assert "outbox.id IN" in statement
    rows = {row["id"]: row["body"] for row in await deck.rows(outbox)}
    assert {parcel.id: parcel.body for parcel in found}.items() <= rows.items()


async def test_an_endpoint_that_is_gone_gets_nothing_more(deck: Deck) -> None:
    """Neither what waits nor what comes later, of this owner; another team's is its own. Enabled, it goes on."""
    other = await team_of(deck.database, "other")
    await ended(deck)
    (first,) = await taken(deck)
    await told(deck, first, Fate.GONE, code=410)
    await ended(deck)
    await ended(other)
    (parcel,) = await taken(deck)
    assert parcel.team_id == other.scope.team_id
    assert {row["state"] for row in await deck.rows(outbox, team_id=deck.scope.team_id)} == {"disabled"}
    (endpoint,) = await deck.database.read(list_disabled, 0, deck.scope)
    assert (endpoint.url, endpoint.reason) == (URL, "it answered 410")
    assert await deck.database.read(list_disabled, 0, other.scope) == []
    with pytest.raises(Conflict, match=f"jobdeck webhooks enable {endpoint.shown_id}"):
        await deck.database.write(resend, Resend(deck.scope.team_id, first.id))
    with pytest.raises(NotFound):
        await deck.database.write(enable_endpoint, EnableEndpoint(other.scope.team_id, endpoint.id))
    await deck.database.write(enable_endpoint, EnableEndpoint(deck.scope.team_id, endpoint.id))
    assert await deck.rows(disabled_webhooks) == []
    await deck.database.write(resend, Resend(deck.scope.team_id, first.id))
    assert [parcel.id for parcel in await taken(deck)] == [first.id]


async def test_only_channels_of_the_sender_are_taken(deck: Deck) -> None:
    """Others wait for a worker that has them; after three days without one they are closed, and say so."""
    run = await deck.started(extras=RunExtras(announces=True), notify=True)
    await deck.finish(run)
    webhooks = ("callback", "webhook")
    database = deck.database
    assert await taken(deck, channels=webhooks) == []
    assert not await database.read(lambda conn: anything_due(conn, database.now_of(conn), webhooks))
    assert await database.read(lambda conn: anything_due(conn, database.now_of(conn), CHANNELS))
    assert await database.write(abandon, webhooks) == 0
    deck.forward(limits.UNDELIVERABLE_AFTER + 1)
    assert await database.write(abandon, CHANNELS) == 0
    assert await database.write(abandon, webhooks) == 1
    (row,) = await deck.rows(outbox)
    assert (row["state"], row["last_error"]) == ("failed", "no worker is set up to send it")


# -- looked at ------------------------------------------------------------------------------------------------------


async def test_deliveries_are_the_teams_own(deck: Deck) -> None:
    """A foreign one and one that is not there are the same, for looking and for sending again."""
    other = await team_of(deck.database, "other")
    run = await ended(deck)
    await ended(deck)
    read = deck.database.read
    mine = await read(list_deliveries, 0, deck.scope, limit=10)
    assert len(mine) == 2
    assert mine[0].created_at >= mine[1].created_at
    (found,) = await read(list_deliveries, 0, deck.scope, run_id=run.id, limit=10)
    assert (found.state, found.tries, found.body) == (DeliveryState.PENDING, 0, None)
    shown = await read(find_delivery, 0, deck.scope, found.id)
    assert shown is not None
    assert json.loads(shown.body or "")["data"]["run_id"] == show_id("run", run.id)
    assert await read(deliveries_like, 0, deck.scope, found.shown_id[-8:]) == [found.id]
    assert await read(list_deliveries, 0, deck.scope, state=DeliveryState.FAILED, limit=10) == []
    assert await read(list_deliveries, 0, other.scope, limit=10) == []
    assert await read(find_delivery, 0, other.scope, found.id) is None
    assert await read(deliveries_like, 0, other.scope, found.shown_id[-8:]) == []
    with pytest.raises(NotFound):
        await deck.database.write(resend, Resend(other.scope.team_id, found.id))


async def test_what_is_being_sent_is_not_sent_again_beside(deck: Deck) -> None:
    """Two tries at once would be one too many."""
    await ended(deck)
    (parcel,) = await taken(deck)
    with pytest.raises(Conflict, match="right now"):
        await deck.database.write(resend, Resend(deck.scope.team_id, parcel.id))


async def test_secrets_overlap_for_a_day(deck: Deck) -> None:
    """The newest signs first, the one before beside it for 24 h; each owner has its own, and lists tell none."""
    team_id = deck.scope.team_id
    job_id = await job_with(deck, webhook_url=URL)
    assert await deck.database.write(rotate, Rotate(team_id, None, "whsec_one", "ada")) is None
    assert await deck.database.write(rotate, Rotate(team_id, None, "whsec_two", "ada")) is not None
    assert await deck.database.write(rotate, Rotate(team_id, job_id, "whsec_job", "ada")) is None
    other = await team_of(deck.database, "other")
    with pytest.raises(NotFound):
        await deck.database.write(rotate, Rotate(other.scope.team_id, job_id, "whsec_x", "eve"))
    await deck.finish(await deck.started(extras=telling(job=JobRef(job_id, 1, None))))
    parcels = {parcel.channel: parcel for parcel in await taken(deck, busy={"hooks.example.com": 0})}
    assert parcels["callback"].secrets == ("whsec_two", "whsec_one")
    assert parcels["webhook"].secrets == ("whsec_job",)
    listed = await deck.database.read(lambda conn: list_secrets(conn, deck.database.now_of(conn), deck.scope))
    assert [(each.job is None, each.previous_until is not None) for each in listed] == [
        (True, True),
        (False, False),
    ]
    assert "whsec" not in repr(listed)
    deck.forward(limits.SECRET_OVERLAP + 1)
    parcels = {parcel.channel: parcel for parcel in await taken(deck)}
    assert parcels["callback"].secrets == ("whsec_two",)
    assert (
        await deck.database.write(rotate, Rotate(team_id, None, "whsec_three", "ada", drop_old=True)) is None
    )


async def test_many_ends_at_once(database: Database) -> None:
    """A batch of 600 ends writes 600 notifications, each of its own run."""
    deck = await team_of(database, "acme")
    ids = await deck.enqueue_many(600, extras=telling())
    claimed = await deck.claim(600)
    ends = [finish_module.Finish(run.id, run.fence, Ending(AttemptOutcome.COMPLETED)) for run in claimed]
    for result in await database.write_many(finish_module.finish, ends):
        good(result)
    rows = await deck.rows(outbox)
    assert {row["run_id"] for row in rows} == set(ids)
    assert len({row["id"] for row in rows}) == 600
