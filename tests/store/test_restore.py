"""What a restore takes away, what it brings back, and what was handed out before it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from jobdeck.bulk import BulkKind
from jobdeck.client import Client
from jobdeck.errors import Conflict, StaleLease
from jobdeck.ids import new_id
from jobdeck.limits import DEFAULT_PROJECT, DEFAULT_TEAM
from jobdeck.model import JobType, RunExtras, RunFilter, TeamScope
from jobdeck.pull import new_token, token_hash
from jobdeck.states import Status
from jobdeck.store.audit.check import check_audit
from jobdeck.store.database import Database
from jobdeck.store.fleet import Leave, Register, leave, register
from jobdeck.store.house.backup import back_up
from jobdeck.store.house.restore import Restored, Wish, restore
from jobdeck.store.house.system_jobs import SystemJob, keep_system_jobs
from jobdeck.store.schema import metadata
from jobdeck.store.scopes import NewProject, NewTeam, create_project, create_team, find_project, find_team
from tests.databases import opened
from tests.postgres import PostgresServer, create_database, drop_database
from tests.store.clients import client_of
from tests.store.deck import WORKER, Deck, execute_statement
from tests.store.pulling import QUEUE, claimed, park

ANN = Wish("ann")
CARRIED_ON = (
    "acks", "audit", "bulk_operations", "bulk_steps", "gates", "members", "outbox", "pauses", "queues",
    "webhook_secrets",
)  # fmt: skip
"""What has to be there before a backup and after its restore."""
OF_PEOPLE: dict[str, dict[str, Any]] = {
    "projects": {"slug": "site", "name": "Site"},
    "members": {"actor": "bob", "role": "viewer", "added_at": 0, "added_by": "ann"},
    "audit": {
        "batch": new_id(), "number": 0, "at": 0, "actor": "ann", "login": "ann", "action": "x", "outcome": "ok",
        "count": 1, "targets": "[]",
    },
    "webhook_secrets": {"owner_id": new_id(), "secret": "s", "created_at": 0, "created_by": "ann"},
    "queues": {"name": "mail", "max_concurrency": 1, "created_at": 0, "created_by": "ann"},
    "pauses": {"kind": "team", "name": "", "actor": "ann", "at": 0},
    "gates": {"job_type": "sync", "limits": "{}"},
    "outbox": {
        "run_id": new_id(), "fence": 1, "event": "run.failed", "channel": "email", "receiver": "email",
        "owner_id": new_id(), "state": "pending", "tries_max": 8, "next_at": 0, "created_at": 0, "endpoint": "team",
        "body": "{}",
    },
}  # fmt: skip
"""A row of each table that says that somebody has set something up here, without team and id."""


async def fresh(database: Database) -> Deck:
    """What jobdeck makes by itself: the teams, a project, its own jobs, and a worker that came and went."""
    team = await database.write(create_team, NewTeam(new_id(), DEFAULT_TEAM, "Default"))
    project = await database.write(create_project, NewProject(new_id(), team.id, DEFAULT_PROJECT, "Default"))
    await database.write(keep_system_jobs, [SystemJob("prune", "system.prune", "Prune", "11 3 * * *")])
    kind = JobType("noop", "Noop", "demo", "project", {}, {}, "jobdeck", "1", "", ())
    await database.write(register, Register(WORKER, "host", 1, "1", (), 1, 60_000_000, (kind,), ()))
    await database.write(leave, Leave(WORKER))
    return Deck(database, TeamScope(team.id, team.slug), project)


@pytest.fixture(params=["sqlite", "postgresql"])
def other_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Another database, with nothing in it, not even a schema."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'other.db'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    url = create_database(server)
    yield url
    drop_database(server, url)


@pytest.fixture
async def client(deck: Deck) -> AsyncIterator[Client]:
    """Ada's client of a team with a pull queue."""
    made = client_of(deck)
    await made.queues.create(QUEUE, pull=True)
    yield made
    made.close()


async def test_what_jobdeck_makes_by_itself_may_go(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    """A new installation, with a worker that has been there, is an empty one."""
    await fresh(database)
    await back_up(database_url, tmp_path / "backup")
    assert await restore(database_url, tmp_path / "backup", ANN) == Restored(1, 0, 0)
    assert await restore(database_url, tmp_path / "backup", ANN) == Restored(2, 0, 0)


@pytest.mark.parametrize("name", OF_PEOPLE)
async def test_what_people_have_set_up_is_not_wiped_unasked(
    database: Database, database_url: str, tmp_path: Path, name: str
) -> None:
    """One row of it is enough to refuse, and stays; `replace` says that it may go."""
    deck = await fresh(database)
    await back_up(database_url, tmp_path / "backup")
    table = metadata.tables[name]
    row = {"id": new_id(), "team_id": deck.scope.team_id, "created_at": 0} | OF_PEOPLE[name]
    if name == "gates":
        del row["id"]
    row = {key: value for key, value in row.items() if key in table.c}
    await database.write(execute_statement, insert(table).values(row))
    before = await deck.rows(table)
    with pytest.raises(Conflict, match=f"something in {name}; --replace"):
        await restore(database_url, tmp_path / "backup", ANN)
    assert await deck.rows(table) == before
    await restore(database_url, tmp_path / "backup", Wish("ann", replace=True))
    assert len(await deck.rows(table)) == len(before) - 1


async def furnished(client: Client, deck: Deck) -> None:
    """One of everything that is set up, on its way or written down."""
    await client.jobs.create("nightly", {"type": "sync", "max_concurrency": 1})
    await client.pauses.pause("job", "nightly", reason="migration")
    await client.queues.limit("mail", 3)
    await client.webhooks.rotate()
    told = RunExtras(callback_url="https://hooks.example.com/", announces=True)
    await deck.finish(await deck.started(extras=told))
    await deck.enqueue(priority=9)
    await client.bulk.start(await client.bulk.plan(BulkKind.CANCEL, RunFilter(queue="default")))
    row = {"team_id": deck.scope.team_id, "actor": "ada", "role": "admin", "added_at": 0, "added_by": "ada"}
    await deck.database.write(execute_statement, insert(metadata.tables["members"]).values(row))


async def test_what_is_set_up_or_on_its_way_survives(
    client: Client, deck: Deck, database_url: str, other_url: str, tmp_path: Path
) -> None:
    """Every row as it was; what was claimed or parked by token is free again, and its token is worth nothing."""
    parked = await deck.started()
    token = new_token()
    await park(deck.database, parked.id, parked.fence, token_hash(token))
    done, held = await claimed(client, deck), await claimed(client, deck)
    said = await client.queues.complete(done.run_id, done.token)
    await furnished(client, deck)
    before = {name: await deck.rows(metadata.tables[name]) for name in CARRIED_ON}
    assert all(before.values()), [name for name, rows in before.items() if not rows]
    await back_up(database_url, tmp_path / "backup")
    assert (await restore(other_url, tmp_path / "backup", ANN)).interrupted == 2
    async with opened(other_url) as other:
        team = await other.read(find_team, "acme")
        assert team is not None
        project = await other.read(find_project, team.id, "main")
        assert project is not None
        again = Deck(other, TeamScope(team.id, team.slug), project)
        assert {name: await again.rows(metadata.tables[name]) for name in CARRIED_ON} == before
        theirs = client_of(again)
        for run_id, text in ((parked.id, token), (held.run_id, held.token)):
            for act in (theirs.queues.complete, theirs.queues.extend):
                with pytest.raises(StaleLease):
                    await act(run_id, text)
            assert (await again.show(run_id)).status is Status.PENDING
        assert await theirs.queues.complete(done.run_id, done.token) == said
        (work,) = await theirs.queues.claim(QUEUE)
        assert work.run_id == held.run_id
        with pytest.raises(StaleLease):
            await theirs.queues.complete(held.run_id, held.token)
        assert (await theirs.queues.complete(held.run_id, work.token)).status is Status.COMPLETED
        await theirs.jobs.create("hourly", {"type": "sync", "max_concurrency": 1})
        gates = [row["id"] for row in await again.rows(metadata.tables["gates"])]
        assert gates == sorted({*gates})
        assert gates[:-1] == [row["id"] for row in before["gates"]]
        assert len(await again.rows(metadata.tables["audit"])) > len(before["audit"])
        assert (await other.read(check_audit)).faults == ()
        theirs.close()
