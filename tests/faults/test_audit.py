"""Every way to change something by hand leaves exactly one row: done, denied or failed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any
from uuid import UUID

import pytest

from jobdeck.bulk import BulkKind, BulkPlan, Target
from jobdeck.client import Client, guard
from jobdeck.errors import DatabaseUnavailable, Forbidden, JobdeckError
from jobdeck.ids import new_id, show_id
from jobdeck.model import BatchItem, JobSpec, RunExtras, RunFilter
from jobdeck.people import Role
from jobdeck.store.bulk.steps import NewBulk, create_bulk
from jobdeck.store.database import Database
from jobdeck.store.outbox.letters import Fate
from jobdeck.store.schema import audit, disabled_webhooks, outbox
from tests.architecture.operations import apis, operations
from tests.store.audits import acts, checked, seal_all
from tests.store.clients import client_of
from tests.store.deck import Deck, team_of
from tests.store.pulling import QUEUE, claimed
from tests.store.test_outbox import ended, taken, told

Operate = Callable[[Client, Deck], Awaitable[Any]]


async def waiting(deck: Deck) -> UUID:
    """A run that awaits approval; nobody has asked for it by hand."""
    return await deck.enqueue(extras=RunExtras(requires_approval=True))


async def job(client: Client) -> UUID:
    """The job `nightly` of the admin."""
    return await client.jobs.resolve("nightly")


ROUTES: dict[str, tuple[Operate, Operate]] = {
    "RunsApi.trigger": (lambda c, d: c.runs.trigger("sync"), lambda c, d: c.runs.trigger("unheard_of")),
    "RunsApi.enqueue": (
        lambda c, d: c.runs.enqueue("sync"),
        lambda c, d: c.runs.enqueue("sync", {"pages": 0}),
    ),
    "RunsApi.trigger_many": (
        lambda c, d: c.runs.trigger_many("sync", [{}, {}]),
        lambda c, d: c.runs.trigger_many("sync", [{}, {"pages": 0}]),
    ),
    "RunsApi.trigger_batch": (
        lambda c, d: c.runs.trigger_batch([BatchItem("sync"), BatchItem("sync")]),
        lambda c, d: c.runs.trigger_batch([BatchItem("unheard_of"), BatchItem("sync", {"pages": 0})]),
    ),
    "RunsApi.rerun": (lambda c, d: _on_run(d, c.runs.rerun), lambda c, d: c.runs.rerun(new_id())),
    "RunsApi.cancel": (lambda c, d: _on_run(d, c.runs.cancel), lambda c, d: c.runs.cancel(new_id())),
    "RunsApi.retry": (lambda c, d: _retry(c, d), lambda c, d: _on_run(d, c.runs.retry)),
    "RunsApi.approve": (lambda c, d: _approve(c, d), lambda c, d: _on_run(d, c.runs.approve)),
    "RunsApi.reject": (
        lambda c, d: _reject(c, d, "no"),
        lambda c, d: _reject(c, d, " "),
    ),
    "RunsApi.update": (
        lambda c, d: _on_run(d, lambda run_id: c.runs.update(run_id, priority=1)),
        lambda c, d: _on_run(d, c.runs.update),
    ),
    "JobsApi.create": (
        lambda c, d: c.jobs.create("another", {"type": "sync"}),
        lambda c, d: c.jobs.create("nightly", {"type": "sync"}),
    ),
    "JobsApi.create_many": (
        lambda c, d: c.jobs.create_many([JobSpec("one", {"type": "sync"}), JobSpec("two", {"type": "sync"})]),
        lambda c, d: c.jobs.create_many([]),
    ),
    "JobsApi.update": (
        lambda c, d: _on_job(c, lambda job_id: c.jobs.update(job_id, {"priority": 1})),
        lambda c, d: _on_job(c, lambda job_id: c.jobs.update(job_id, {"priority": 1}, if_version=9)),
    ),
    "JobsApi.rollback": (
        lambda c, d: _on_job(c, lambda job_id: c.jobs.rollback(job_id, 1)),
        lambda c, d: _on_job(c, lambda job_id: c.jobs.rollback(job_id, 9)),
    ),
    "JobsApi.clone": (
        lambda c, d: _on_job(c, lambda job_id: c.jobs.clone(job_id, "copy")),
        lambda c, d: _on_job(c, lambda job_id: c.jobs.clone(job_id, "nightly")),
    ),
    "JobsApi.switch": (
        lambda c, d: _on_job(c, lambda job_id: c.jobs.switch([job_id], enabled=False)),
        lambda c, d: c.jobs.switch([new_id()], enabled=False),
    ),
    "JobsApi.archive": (lambda c, d: _on_job(c, c.jobs.archive), lambda c, d: c.jobs.archive(new_id())),
    "JobsApi.trigger": (lambda c, d: _on_job(c, c.jobs.trigger), lambda c, d: c.jobs.trigger(new_id())),
    "JobsApi.apply": (
        lambda c, d: c.jobs.apply([JobSpec("third", {"type": "sync"})]),
        lambda c, d: c.jobs.apply([JobSpec("third", {"type": "unheard_of"})]),
    ),
    "JobsApi.depend": (
        lambda c, d: _on_pair(c, c.jobs.depend),
        lambda c, d: _on_job(c, lambda job_id: c.jobs.depend(job_id, job_id)),
    ),
    "JobsApi.undepend": (
        lambda c, d: _on_pair(c, c.jobs.undepend),
        lambda c, d: _on_job(c, lambda job_id: c.jobs.undepend(job_id, job_id)),
    ),
    "RunsApi.pin": (lambda c, d: _on_run(d, c.runs.pin), lambda c, d: c.runs.pin(new_id())),
    "RunsApi.unpin": (lambda c, d: _on_run(d, c.runs.unpin), lambda c, d: c.runs.unpin(new_id())),
    "BulkApi.start": (
        lambda c, d: _bulk(c, d, BulkKind.CANCEL),
        lambda c, d: _bulk(c, d, BulkKind.REJECT),
    ),
    "BulkApi.stop": (lambda c, d: _on_bulk(d, c.bulk.stop), lambda c, d: c.bulk.stop(new_id())),
    "PausesApi.pause": (
        lambda c, d: c.pauses.pause("queue", "slow"),
        lambda c, d: c.pauses.pause("dog", "rex"),
    ),
    "PausesApi.resume": (
        lambda c, d: c.pauses.resume("queue", "paused"),
        lambda c, d: c.pauses.resume("queue", "slow"),
    ),
    "QueuesApi.create": (
        lambda c, d: c.queues.create("outside", pull=True),
        lambda c, d: c.queues.create("declared"),
    ),
    "QueuesApi.limit": (lambda c, d: c.queues.limit("slow", 2), lambda c, d: c.queues.limit("slow", 0)),
    "QueuesApi.delete": (lambda c, d: c.queues.delete("declared"), lambda c, d: c.queues.delete("nowhere")),
    "QueuesApi.complete": (
        lambda c, d: _on_claim(d, c.queues.complete),
        lambda c, d: c.queues.complete(new_id(), "none"),
    ),
    "QueuesApi.fail": (
        lambda c, d: _on_claim(d, lambda run_id, token: c.queues.fail(run_id, token, "no")),
        lambda c, d: c.queues.fail(new_id(), "none", "no"),
    ),
    "DeliveriesApi.resend": (
        lambda c, d: _on_delivery(d, c.deliveries.resend),
        lambda c, d: c.deliveries.resend(new_id()),
    ),
    "WebhooksApi.rotate": (lambda c, d: c.webhooks.rotate(), lambda c, d: c.webhooks.rotate(new_id())),
    "WebhooksApi.enable": (
        lambda c, d: _on_endpoint(d, c.webhooks.enable),
        lambda c, d: c.webhooks.enable(show_id("hook", new_id())),
    ),
    "TeamsApi.create": (lambda c, d: c.teams.create("new"), lambda c, d: c.teams.create("acme")),
    "ProjectsApi.create": (lambda c, d: c.projects.create("new"), lambda c, d: c.projects.create("No Slug")),
    "MembersApi.add": (
        lambda c, d: c.members.add("ben", Role.VIEWER),
        lambda c, d: c.members.add("vera", Role.VIEWER),
    ),
    "MembersApi.set": (
        lambda c, d: c.members.set("vera", Role.OPERATOR),
        lambda c, d: c.members.set("ada", Role.VIEWER),
    ),
    "MembersApi.remove": (lambda c, d: c.members.remove("vera"), lambda c, d: c.members.remove("nobody")),
}
"""Of each operation that changes something: one call that does, and one that is refused by what there is."""


async def _on_run(deck: Deck, operate: Callable[[UUID], Awaitable[Any]]) -> Any:
    return await operate(await deck.enqueue())


async def _on_job(client: Client, operate: Callable[[UUID], Awaitable[Any]]) -> Any:
    return await operate(await job(client))


async def _on_pair(client: Client, operate: Callable[[UUID, UUID], Awaitable[Any]]) -> Any:
    return await operate(await job(client), await client.jobs.resolve("source"))


async def _bulk(client: Client, deck: Deck, kind: BulkKind) -> Any:
    run_id = await deck.enqueue()
    return await client.bulk.start(BulkPlan(kind, RunFilter(), [Target(run_id, 0)]))


async def _on_bulk(deck: Deck, operate: Callable[[UUID], Awaitable[Any]]) -> Any:
    targets = [Target(await deck.enqueue(), 0)]
    new = NewBulk(new_id(), deck.scope.team_id, BulkKind.CANCEL, RunFilter(), "ada", None, targets)
    return await operate(await deck.database.write(create_bulk, new))


async def _on_claim(deck: Deck, operate: Callable[[UUID, str], Awaitable[Any]]) -> Any:
    work = await claimed(client_of(deck), deck)
    return await operate(work.run_id, work.token)


async def _on_delivery(deck: Deck, operate: Callable[[UUID], Awaitable[Any]]) -> Any:
    await ended(deck)
    return await operate((await deck.rows(outbox))[-1]["id"])


async def _on_endpoint(deck: Deck, operate: Callable[[str], Awaitable[Any]]) -> Any:
    """One that has answered 410, to whomever comes first."""
    if not await deck.rows(disabled_webhooks):
        await ended(deck)
        (parcel,) = await taken(deck)
        await told(deck, parcel, Fate.GONE, code=410)
    (endpoint,) = await deck.rows(disabled_webhooks)
    return await operate(show_id("hook", endpoint["id"]))


async def _retry(client: Client, deck: Deck) -> Any:
    run_id = await deck.enqueue()
    await deck.cancel(run_id)
    return await client.runs.retry(run_id)


async def _approve(client: Client, deck: Deck) -> Any:
    return await client.runs.approve(await waiting(deck))


async def _reject(client: Client, deck: Deck, reason: str) -> Any:
    return await client.runs.reject(await waiting(deck), reason=reason)


async def _chain(client: Client) -> None:
    await client.jobs.create("source", {"type": "sync"})


async def _chained(client: Client) -> None:
    await _chain(client)
    await _on_pair(client, client.jobs.depend)


BEFORE: dict[str, Callable[[Client], Awaitable[Any]]] = {
    "JobsApi.rollback": lambda c: _on_job(c, lambda job_id: c.jobs.update(job_id, {"priority": 2})),
    "JobsApi.depend": _chain,
    "JobsApi.undepend": _chained,
    "PausesApi.resume": lambda c: c.pauses.pause("queue", "paused"),
    "QueuesApi.create": lambda c: c.queues.create("declared"),
    "QueuesApi.delete": lambda c: c.queues.create("declared"),
    "QueuesApi.complete": lambda c: c.queues.create(QUEUE, pull=True),
    "QueuesApi.fail": lambda c: c.queues.create(QUEUE, pull=True),
}
"""What has to be there first."""


def mutating() -> Iterator[tuple[str, str]]:
    """Every operation that is an act, and the name of the act."""
    for api in apis():
        for name, value in operations(api):
            if hasattr(value, "action"):
                yield f"{api.__name__}.{name}", value.action


@pytest.fixture
async def deck(database: Database) -> Deck:
    """A team on a fresh database."""
    return await team_of(database, "acme")


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Roles are read for every operation."""
    monkeypatch.setattr(guard, "_FRESH", 0.0)


def test_every_mutating_route_is_tried() -> None:
    """Whoever adds an operation that changes something adds a line to the table here."""
    named = {route for route, _ in mutating()} - {"RunMaking.trigger"}
    assert named == set(ROUTES), f"put into ROUTES: {sorted(named - set(ROUTES))}"


@pytest.mark.parametrize("route", ROUTES)
async def test_s15_each_route_leaves_one_row(deck: Deck, route: str) -> None:
    """Done, failed, denied to a viewer, denied to a stranger: one row each, with its target; the chain verifies."""
    action = dict(mutating())[route]
    done, failing = ROUTES[route]
    ada = client_of(deck)
    await ada.jobs.create("nightly", {"type": "sync"})
    if route in BEFORE:
        await BEFORE[route](ada)
    await ada.members.add("ada", Role.ADMIN)
    await ada.members.add("vera", Role.VIEWER)
    before = len(await acts(deck))

    await _refused(failing(ada, deck))
    vera, eve = client_of(deck, actor="vera"), client_of(deck, actor="eve")
    for client in (vera, eve):
        with pytest.raises(JobdeckError) as caught:
            await _as(client, ada, done, deck)
        assert isinstance(caught.value, Forbidden) == (client is vera)
    await done(ada, deck)

    rows = (await deck.rows(audit))[before:]
    found = [(row["action"], row["actor"], row["outcome"]) for row in rows]
    outcomes = [("ada", "failed"), ("vera", "denied"), ("eve", "denied"), ("ada", "done")]
    assert found == [(action, actor, outcome) for actor, outcome in outcomes]
    assert [row["code"] for row in rows[1:]] == ["forbidden", "not_found", None]
    assert rows[0]["code"] is not None
    assert rows[3]["targets"] != "[]"
    assert rows[3]["before"] is not None or rows[3]["after"] is not None
    await seal_all(deck.database)
    report = await checked(deck.database)
    assert (report.ok, report.rows, report.unsealed) == (True, before + 4, 0), report.faults


async def _refused(operation: Awaitable[Any]) -> None:
    """Refused as a whole, or every item of it for itself."""
    try:
        result = await operation
    except JobdeckError:
        return
    assert all(each.error is not None for each in result), result


async def _as(client: Client, admin: Client, operate: Operate, deck: Deck) -> None:
    """The operation of somebody who is told of its target by an admin: looking it up is refused to a stranger."""

    class Told:
        runs, teams, projects, members = client.runs, client.teams, client.projects, client.members
        bulk, pauses, queues = client.bulk, client.pauses, client.queues
        deliveries, webhooks = client.deliveries, client.webhooks

        class jobs:
            resolve = admin.jobs.resolve

    for name in vars(type(client.jobs)):
        if not name.startswith("_") and name != "resolve":
            setattr(Told.jobs, name, getattr(client.jobs, name))
    told: Any = Told
    await operate(told, deck)


async def test_an_act_that_the_database_loses_is_told_by_its_error(
    deck: Deck, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the database is what failed, the error is its own, and nobody waits for a row that cannot be stored."""
    client = client_of(deck)
    await client.runs.counts()

    async def away(*_: object) -> None:
        raise DatabaseUnavailable

    monkeypatch.setattr(deck.database, "write", away)
    with pytest.raises(DatabaseUnavailable):
        await client.runs.cancel(new_id())
    assert await acts(deck) == []
