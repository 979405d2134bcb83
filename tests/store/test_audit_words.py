"""What the audit says of acts that are no run's own: what was changed, whose it is, and what was refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import insert

from jobdeck.bulk import BulkKind, BulkState
from jobdeck.client import Client, guard
from jobdeck.errors import Conflict, Forbidden, NotFound, StaleLease
from jobdeck.ids import new_id, show_id
from jobdeck.model import RunFilter
from jobdeck.people import Role
from jobdeck.states import AttemptOutcome, Condition, Status
from jobdeck.store.bulk.steps import next_step, work_step
from jobdeck.store.schema import audit, disabled_webhooks, outbox, runs
from jobdeck.store.transaction import Rank, Tx, verb
from tests.store.audits import behind_the_triggers, seal_all
from tests.store.clients import client_of
from tests.store.deck import Deck, team_of
from tests.store.pulling import QUEUE, claimed


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Roles are read for every operation, so that a test sees a change at once."""
    monkeypatch.setattr(guard, "_FRESH", 0.0)


@pytest.fixture
async def client(deck: Deck) -> Client:
    """Ada's client."""
    return client_of(deck)


@verb(Rank.CHANGE)
def store_row(tx: Tx, items: Sequence[dict[str, Any]]) -> Sequence[None]:
    """Endpoints that want no more."""
    tx.conn.execute(insert(disabled_webhooks), list(items))
    return [None] * len(items)


async def said(deck: Deck, action: str) -> list[tuple[str, list[str], Any, Any]]:
    """Outcome, targets, before and after of every such act."""
    rows = [row for row in await deck.rows(audit) if row["action"] == action]
    return [(row["outcome"], *(_read(row[name]) for name in ("targets", "before", "after"))) for row in rows]


def _read(text: str | None) -> Any:
    return None if text is None else json.loads(text)


async def test_queues(deck: Deck, client: Client) -> None:
    """Of a limit the old and the new one, of a declared queue what it is, of a deleted one what it was."""
    await client.queues.limit("slow", 2)
    await client.queues.limit("slow", None)
    none, two = {"max_concurrency": None}, {"max_concurrency": 2}
    assert await said(deck, "queue.limit") == [
        ("done", ["slow"], none, two),
        ("done", ["slow"], two, none),
    ]
    await client.queues.create(QUEUE, pull=True)
    await client.queues.delete(QUEUE)
    made = {"pull": True, "description": ""}
    assert await said(deck, "queue.create") == [("done", [QUEUE], None, made)]
    assert await said(deck, "queue.delete") == [("done", [QUEUE], {"pull": True}, None)]


async def test_secrets_of_webhooks(deck: Deck, client: Client) -> None:
    """Whose it is, and whether the old one was dropped; a job has a job's id, also where it is unknown."""
    job = await client.jobs.create("nightly", {"type": "sync"})
    shown, unknown = show_id("job", job.id), new_id()
    await client.webhooks.rotate(job.id)
    await client.webhooks.rotate(job_id=job.id, drop_old=True)
    await client.webhooks.rotate()
    with pytest.raises(NotFound):
        await client.webhooks.rotate(unknown)
    one = {"old_signs_until": None, "drop_old": False}
    assert await said(deck, "webhook.rotate") == [
        ("done", [shown], None, one),
        ("done", [shown], None, one | {"drop_old": True}),
        ("done", ["callbacks"], None, one),
        ("failed", [show_id("job", unknown)], None, None),
    ]


async def test_deliveries_and_endpoints(deck: Deck, client: Client) -> None:
    """A delivery has the id that it is shown by; an endpoint is on again."""
    await client.runs.enqueue("sync", callback_url="https://hooks.example.com/ended")
    (run,) = await deck.claim()
    await deck.finish(run, AttemptOutcome.COMPLETED)
    (row,) = await deck.rows(outbox)
    shown = show_id("msg", row["id"])
    await client.deliveries.resend(row["id"])
    with pytest.raises(NotFound):
        await client.deliveries.resend(run.id)
    before, after = {"state": "pending", "tries": 0}, {"state": "pending"}
    assert await said(deck, "delivery.resend") == [
        ("done", [shown], before, after),
        ("failed", [show_id("msg", run.id)], None, None),
    ]
    hook = new_id()
    facts = {"id": hook, "team_id": deck.scope.team_id, "owner_id": deck.scope.team_id}
    await deck.database.write(
        store_row, facts | {"url": "https://x.example", "disabled_at": 1, "reason": "gone"}
    )
    await client.webhooks.enable(show_id("hook", hook))
    on = ("done", [show_id("hook", hook)], {"enabled": False}, {"enabled": True})
    assert await said(deck, "webhook.enable") == [on]


async def test_dependencies_of_jobs(deck: Deck, client: Client) -> None:
    """The other job, and how it has to end."""
    one, two = [await client.jobs.create(slug, {"type": "sync"}) for slug in ("one", "two")]
    await client.jobs.depend(two.id, one.id, Condition.FINISHED)
    await client.jobs.undepend(two.id, one.id)
    first, second = show_id("job", one.id), show_id("job", two.id)
    stated = {"starts_after": [f"{first} {Condition.FINISHED}"]}
    assert await said(deck, "job.depend") == [("done", [second], None, stated)]
    assert await said(deck, "job.undepend") == [("done", [second], {"starts_after": [first]}, None)]


async def test_pins(deck: Deck, client: Client) -> None:
    """What it was and what it is."""
    run = await client.runs.trigger("sync")
    await client.runs.pin(run.id)
    await client.runs.unpin(run.id)
    off, on = {"pinned": False}, {"pinned": True}
    assert await said(deck, "run.pin") == [("done", [run.shown_id], off, on)]
    assert await said(deck, "run.unpin") == [("done", [run.shown_id], on, off)]


async def test_bulk_operations(deck: Deck, client: Client) -> None:
    """What was asked for and for how many; each step is an act of whoever asked, with count, first ids and reason."""
    await deck.enqueue_many(70)
    plan = await client.bulk.plan(BulkKind.CANCEL, RunFilter(job_type="sync"))
    bulk = await client.bulk.start(plan, reason="storm")
    ((outcome, targets, before, after),) = await said(deck, "bulk.start")
    assert (outcome, targets, before) == ("done", [bulk.shown_id], None)
    assert (after["kind"], after["total"], after["filter"]["job_type"]) == ("cancel", 70, "sync")
    while (step := await deck.database.read(next_step)) is not None:
        await deck.database.write(work_step, step)
    rows = [row for row in await deck.rows(audit) if row["action"] == "run.cancel"]
    assert sorted(row["count"] for row in rows) == [20, 50]
    assert {(row["actor"], row["outcome"], row["reason"]) for row in rows} == {("ada", "done", "storm")}
    for row in rows:
        assert len(json.loads(row["targets"])) == 10
        assert json.loads(row["after"]) == [{"status": "cancelled"}] * 10


async def test_two_steps_in_one_transaction_tell_each_their_own(deck: Deck, client: Client) -> None:
    """Nothing of one step stands in the row of the next, whatever the interpreter does with its items."""
    await deck.enqueue_many(100)
    await client.bulk.start(await client.bulk.plan(BulkKind.CANCEL, RunFilter()))
    first = await deck.database.read(next_step)
    assert first is not None
    steps = {first.number: first}
    while len(steps) < 2:
        step = await deck.database.read(next_step)
        assert step is not None
        steps[step.number] = step
    await deck.database.write_many(work_step, list(steps.values()))
    rows = [row for row in await deck.rows(audit) if row["action"] == "run.cancel"]
    assert [row["count"] for row in rows] == [50, 50]
    named = [target for row in rows for target in json.loads(row["targets"])]
    assert len(set(named)) == 20


async def test_a_stopped_bulk_operation(deck: Deck, client: Client) -> None:
    """What it was when it was stopped."""
    await deck.enqueue()
    bulk = await client.bulk.start(await client.bulk.plan(BulkKind.CANCEL, RunFilter()))
    await client.bulk.stop(bulk.id)
    before = {"state": "pending", "kind": "cancel"}
    assert await said(deck, "bulk.stop") == [("done", [bulk.shown_id], before, {"state": "stopped"})]


@pytest.mark.parametrize("kind", [BulkKind.CANCEL, BulkKind.RETRY])
async def test_bulk_ends_with_the_role_of_whoever_asked(deck: Deck, client: Client, kind: BulkKind) -> None:
    """Who is no member any more, or may only look, changes nothing: the operation stops and says why."""
    await client.members.add("ada", Role.ADMIN)
    await client.members.add("ben", Role.OPERATOR)
    status = Status.PENDING if kind is BulkKind.CANCEL else Status.CANCELLED
    ids = await deck.enqueue_many(60)
    if kind is BulkKind.RETRY:
        for run_id in ids:
            await deck.cancel(run_id)
    ben = client_of(deck, actor="ben")
    bulk = await ben.bulk.start(await ben.bulk.plan(kind, RunFilter()))
    await client.members.remove("ben")
    while (step := await deck.database.read(next_step)) is not None:
        await deck.database.write(work_step, step)
    assert {row["status"] for row in await deck.rows(runs)} == {status}
    found = await client.bulk.show(bulk.id)
    assert (found.state, found.done) == (BulkState.STOPPED, 0)
    assert found.skipped in (10, 50)
    (row,) = [row for row in await deck.rows(audit) if row["action"] == f"run.{kind}"]
    assert (row["actor"], row["outcome"], row["code"]) == ("ben", "denied", "not_found")
    assert row["count"] == found.skipped


async def test_ends_by_programs(deck: Deck, client: Client) -> None:
    """`complete` and `fail` are acts on the run; a claim and its extension are none."""
    await client.queues.create(QUEUE, pull=True)
    work = await claimed(client, deck)
    await client.queues.extend(work.run_id, work.token)
    await client.queues.complete(work.run_id, work.token)
    lost = await claimed(client, deck)
    await client.queues.fail(lost.run_id, token=lost.token, error="no", retry=False)
    with pytest.raises(StaleLease):
        await client.queues.complete(lost.run_id, "jdt_other")
    first, second = show_id("run", work.run_id), show_id("run", lost.run_id)
    ran = {"status": "running"}
    assert await said(deck, "run.finish") == [
        ("done", [first], ran, {"status": "completed"}),
        ("done", [second], ran, {"status": "failed"}),
        ("failed", [second], None, None),
    ]
    assert {row["action"] for row in await deck.rows(audit)} == {"queue.create", "run.finish"}


async def test_what_programs_were_refused(deck: Deck, client: Client) -> None:
    """A viewer's claim, extension and ends are in the audit, each with what it was for; no token is."""
    await client.queues.create(QUEUE, pull=True)
    await client.members.add("ada", Role.ADMIN)
    await client.members.add("vic", Role.VIEWER)
    work = await claimed(client, deck)
    vic = client_of(deck, actor="vic")
    for refused in (
        vic.queues.claim(QUEUE),
        vic.queues.extend(work.run_id, work.token),
        vic.queues.complete(work.run_id, work.token),
        vic.queues.fail(work.run_id, work.token, "no"),
    ):
        with pytest.raises(Forbidden):
            await refused
    rows = [row for row in await deck.rows(audit) if row["actor"] == "vic"]
    shown = show_id("run", work.run_id)
    assert [(row["action"], row["outcome"], json.loads(row["targets"])) for row in rows] == [
        ("run.claim", "denied", [QUEUE]),
        ("run.extend", "denied", [shown]),
        ("run.finish", "denied", [shown]),
        ("run.finish", "denied", [shown]),
    ]
    assert work.token not in str(rows)


async def test_other_teams_rows_are_not_told_of_by_verify(deck: Deck, client: Client) -> None:
    """That one was edited is; who did what in it is for its own team."""
    theirs = client_of(await team_of(deck.database, "rivals"), actor="mallory")
    await theirs.runs.enqueue("sync")
    await seal_all(deck.database)
    await deck.database.write(behind_the_triggers, "UPDATE audit SET code = 'x'")
    (fault,) = (await client.audit.verify()).faults
    assert fault.text.endswith("has been edited: it is now an act of another team")
    (fault,) = (await theirs.audit.verify()).faults
    assert "run.trigger by mallory" in fault.text


async def test_a_conflict_is_no_change(deck: Deck, client: Client) -> None:
    """A queue that is declared already is told of as asked for, with nothing after it."""
    await client.queues.create(QUEUE)
    with pytest.raises(Conflict):
        await client.queues.create(QUEUE)
    assert (await said(deck, "queue.create"))[1] == ("failed", [QUEUE], None, None)
