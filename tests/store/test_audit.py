"""The audit: rows in the transaction of what they tell of, never changed, sealed once each, and checked."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from jobdeck.audit import AuditFilter, AuditOutcome, digest
from jobdeck.errors import JobdeckError, NotCancellable, ValidationError
from jobdeck.ids import new_id, show_id
from jobdeck.model import BatchItem
from jobdeck.store.audit.acts import Act, current
from jobdeck.store.audit.seals import entries_of, seal
from jobdeck.store.database import Database
from jobdeck.store.enqueue import enqueue
from jobdeck.store.schema import audit, audit_seals, audit_unsealed, runs
from tests.databases import opened
from tests.store.audits import acts, behind_the_triggers, checked, plainly, seal_all
from tests.store.clients import client_of
from tests.store.deck import Deck, team_of

ROOT = Path(__file__).parents[2]
SECONDS = 90.0


async def test_a_row_says_who_did_what_and_what_it_changed(deck: Deck) -> None:
    """Actor, database's user, target, reason, before and after; params stand in it as a digest alone."""
    client = client_of(deck)
    run = await client.runs.trigger("sync", {"source": "top secret"})
    await client.runs.cancel(run.id, reason="not today")
    made, cancelled = await deck.rows(audit)
    assert (made["action"], made["outcome"], made["actor"]) == ("run.trigger", "done", "ada")
    assert made["login"] not in ("", "ada")
    assert made["team_id"] == deck.scope.team_id
    assert json.loads(made["targets"]) == [run.shown_id]
    (stored,) = await deck.rows(runs)
    assert json.loads(made["after"]) == {"type": "sync", "params": digest(stored["params"])}
    assert "secret" not in str(made)
    assert (cancelled["action"], cancelled["reason"], cancelled["count"]) == ("run.cancel", "not today", 1)
    assert json.loads(cancelled["before"]) == {"status": "pending"}
    assert json.loads(cancelled["after"]) == {"status": "cancelled"}


async def test_what_workers_do_is_no_act(deck: Deck) -> None:
    """Runs that are made and ended by the store's own verbs leave no row."""
    await deck.finish(await deck.started())
    assert await acts(deck) == []


async def test_an_act_that_is_rolled_back_leaves_no_row_of_it(deck: Deck) -> None:
    """A transaction that fails takes its rows with it: the neighbours have theirs, the one that failed has none."""
    act = Act(deck.scope.team_id, "ada", "run.trigger", kind="run")
    token = current.set(act)
    try:
        bad = deck.new_run(team_id=None)
        found = await deck.database.write_many(enqueue, [deck.new_run(), bad, deck.new_run()])
    finally:
        current.reset(token)
    stored = [show_id("run", result) for result in found if not isinstance(result, JobdeckError)]
    assert len(stored) == 2
    told = [target for row in await deck.rows(audit) for target in json.loads(row["targets"])]
    assert sorted(told) == sorted(stored)


async def test_a_batch_is_one_row_with_its_count_and_the_first_ids(deck: Deck) -> None:
    """A hundred runs of one call are one row; what was refused among different ones is another."""
    client = client_of(deck)
    made = await client.runs.trigger_many("sync", [{}] * 100)
    (row,) = await deck.rows(audit)
    assert (row["count"], json.loads(row["targets"])) == (100, [show_id("run", each) for each in made[:10]])
    await client.runs.trigger_batch([BatchItem("sync"), BatchItem("unheard_of"), BatchItem("sync")])
    assert await acts(deck) == [
        ("run.trigger", "done", None),
        ("run.trigger", "done", None),
        ("run.trigger", "failed", "unknown_job_type"),
    ]
    counts = [row["count"] for row in await deck.rows(audit)]
    assert counts == [100, 2, 3]


async def test_acts_at_the_same_time_keep_their_own_rows(deck: Deck) -> None:
    """Fifty people in one process, in one transaction or several: each act has its actor and its run."""
    clients = [client_of(deck, actor=f"person-{number}") for number in range(50)]
    made = await asyncio.gather(*(client.runs.enqueue("sync") for client in clients))
    told = {row["actor"]: json.loads(row["targets"]) for row in await deck.rows(audit)}
    assert told == {
        client.actor: [show_id("run", run_id)] for client, run_id in zip(clients, made, strict=True)
    }


async def test_acts_at_the_same_time_are_one_transaction(deck: Deck) -> None:
    """Whatever they differ in: one that fails as a whole is done again in ever smaller parts, which costs ten times."""
    client = client_of(deck)
    await asyncio.gather(*(client.runs.enqueue("sync", {"number": number}) for number in range(20)))
    rows = await deck.rows(audit)
    assert len(rows) == 20
    assert len({row["after"] for row in rows}) == 20
    assert len({row["batch"] for row in rows}) < 20


async def test_nothing_changes_or_deletes_a_row(deck: Deck) -> None:
    """The database itself refuses it, on rows and on seals; so it does to empty the tables at once."""
    await client_of(deck).runs.enqueue("sync")
    await seal_all(deck.database)
    before = await deck.rows(audit), await deck.rows(audit_seals)
    statements = ["UPDATE audit SET actor = 'eve'", "DELETE FROM audit", "DELETE FROM audit_seals"]
    statements.append("UPDATE audit_seals SET hash = ''")
    if deck.database.differences.name == "postgresql":
        statements.append("TRUNCATE audit")
    for statement in statements:
        with pytest.raises(Exception, match="append-only"):
            await deck.database.write(plainly, statement)
    assert (await deck.rows(audit), await deck.rows(audit_seals)) == before


async def test_lists_are_of_the_own_team_and_by_what_is_asked_for(deck: Deck) -> None:
    """Newest first; by actor, action or its first word, outcome, time and number; nothing of another team."""
    ada, ben = client_of(deck), client_of(deck, actor="ben")
    other = client_of(await team_of(deck.database, "other"))
    run = await ada.runs.trigger("sync")
    deck.forward(60)
    await ben.runs.cancel(run.id)
    with pytest.raises(NotCancellable):
        await ben.runs.cancel(run.id)
    await other.runs.enqueue("sync")
    found = await ada.audit.list()
    words = [(entry.actor, entry.action, entry.outcome) for entry in found]
    assert words == [
        ("ben", "run.cancel", AuditOutcome.FAILED),
        ("ben", "run.cancel", AuditOutcome.DONE),
        ("ada", "run.trigger", AuditOutcome.DONE),
    ]
    for chosen, expected in (
        (AuditFilter(actor="ada"), found[2:]),
        (AuditFilter(action="run.cancel"), found[:2]),
        (AuditFilter(action="run"), found),
        (AuditFilter(action="ru"), []),
        (AuditFilter(outcome=AuditOutcome.FAILED), found[:1]),
        (AuditFilter(since=found[1].at), found[:2]),
    ):
        assert await ada.audit.list(chosen) == expected
    assert await ada.audit.list(limit=1) == found[:1]
    with pytest.raises(ValidationError, match="1 to 500"):
        await ada.audit.list(limit=0)


async def test_a_seal_holds_every_row_once(deck: Deck) -> None:
    """Each seal follows the last one and holds what came meanwhile; the record is whole at every step."""
    client = client_of(deck)
    assert await seal_all(deck.database) == 0
    for number in range(3):
        await client.runs.enqueue("sync")
        report = await checked(deck.database)
        assert (report.ok, report.rows, report.seals, report.unsealed) == (True, number + 1, number, 1)
        assert await seal_all(deck.database) == 1
    report = await checked(deck.database)
    assert (report.ok, report.rows, report.seals, report.unsealed) == (True, 3, 3, 0)
    await assert_sealed_once(deck)


async def assert_sealed_once(deck: Deck) -> None:
    """Every row is in one seal, and no batch waits."""
    sealed = Counter(batch for row in await deck.rows(audit_seals) for batch in entries_of(row["entries"]))
    assert sealed == Counter({row["batch"] for row in await deck.rows(audit)})
    assert await deck.rows(audit_unsealed) == []


EDITS: dict[str, tuple[str, str]] = {
    "an edited row": ("UPDATE audit SET actor = 'eve' WHERE action = 'run.cancel'", "now run.cancel by eve"),
    "another reason": ("UPDATE audit SET reason = NULL WHERE reason = 'why'", "edited"),
    "a row less": ("DELETE FROM audit WHERE action = 'run.cancel'", "has been removed"),
    "a row more, in a batch of its own": (
        "INSERT INTO audit SELECT {id}, 0, at, team_id, 'eve', login, action, outcome, code, count, targets,"
        " reason, before, after FROM audit WHERE action = 'run.cancel'",
        "added: run.cancel by eve",
    ),
    "a row more, in a batch that is there": (
        "INSERT INTO audit SELECT batch, 7, at, team_id, 'eve', login, action, outcome, code, count, targets,"
        " reason, before, after FROM audit WHERE action = 'run.cancel'",
        "added: run.cancel by eve",
    ),
    "a seal less": ("DELETE FROM audit_seals WHERE id = 1", "before seal 2, 1 seals are missing"),
    "an edited seal": ("UPDATE audit_seals SET at = at + 1 WHERE id = 1", "seal 1 has been changed"),
    "a seal made anew": ("UPDATE audit_seals SET hash = 'new' WHERE id = 1", "does not follow seal 1"),
    "an unreadable seal": ("UPDATE audit_seals SET entries = '[]' WHERE id = 1", "seal 1 cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("edit", EDITS)
async def test_what_is_done_behind_its_back_is_seen(deck: Deck, edit: str) -> None:
    """Each edit, removal and addition is told of, with the row or seal that it was done to; nothing else is."""
    client = client_of(deck)
    run = await client.runs.trigger("sync")
    await seal_all(deck.database)
    await client.runs.cancel(run.id, reason="why")
    await seal_all(deck.database)
    assert (await checked(deck.database)).ok
    statement, words = EDITS[edit]
    literal = f"x'{new_id().hex}'" if deck.database.differences.name == "sqlite" else f"'{new_id()}'::uuid"
    await deck.database.write(behind_the_triggers, statement.format(id=literal))
    report = await checked(deck.database)
    assert not report.ok
    assert any(words in fault.text for fault in report.faults), report.faults
    if "seal" not in edit:
        assert len(report.faults) == 1


async def test_a_row_that_goes_before_it_is_sealed_is_missed(deck: Deck) -> None:
    """What was written and is not there any more is told of, and is never sealed as if it had been like that."""
    client = client_of(deck)
    await client.runs.enqueue("sync")
    await deck.database.write(behind_the_triggers, "DELETE FROM audit")
    assert await seal_all(deck.database) == 0
    (fault,) = (await checked(deck.database)).faults
    assert "1 rows were written and 0 are there" in fault.text
    await client.runs.enqueue("sync")
    assert await seal_all(deck.database) == 1


async def test_two_who_seal_at_the_same_time_make_one_chain(deck: Deck, database_url: str) -> None:
    """Twenty rounds of two workers while rows come: no row is sealed twice, and the chain is whole."""
    client = client_of(deck)
    async with opened(database_url) as other:
        for _ in range(20):
            await asyncio.gather(
                *(client.runs.enqueue("sync") for _ in range(5)),
                *(database.write(seal, None) for database in (deck.database, other)),
            )
        await seal_all(other)
    assert (await checked(deck.database)).ok
    await assert_sealed_once(deck)


@pytest.mark.parametrize("database_kind", ["postgresql"])
async def test_a_row_that_comes_late_is_sealed_by_the_next_seal(deck: Deck, database_url: str) -> None:
    """A transaction that began first and commits last does not fall behind the chain, and nobody waits for it."""
    import psycopg

    client = client_of(deck)
    late = new_id()
    with psycopg.connect(database_url) as conn:
        conn.execute(
            "INSERT INTO audit (batch, number, at, actor, login, action, outcome, count, targets)"
            " VALUES (%s, 0, 1, 'ada', 'x', 'run.cancel', 'done', 1, '[]')",
            (late,),
        )
        conn.execute("INSERT INTO audit_unsealed (batch, count) VALUES (%s, 1)", (late,))
        await client.runs.enqueue("sync")
        assert await seal_all(deck.database) == 1
        conn.commit()
    report = await checked(deck.database)
    assert (report.ok, report.unsealed) == (True, 1)
    assert await seal_all(deck.database) == 1
    await assert_sealed_once(deck)


async def test_processes_act_while_others_seal(deck: Deck, database: Database, database_url: str) -> None:
    """Three processes with eight people each, and two that seal all the time: every act has its row, once, sealed."""
    people, each = 24, 10
    command = [sys.executable, "-m", "tests.store.actors", database_url, deck.scope.slug, "3", str(each)]
    done = await asyncio.to_thread(
        subprocess.run, command, check=False, capture_output=True, text=True, cwd=ROOT, timeout=SECONDS
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    await seal_all(database)
    report = await checked(database)
    assert (report.ok, report.rows, report.unsealed) == (True, people * each, 0), report.faults
    assert report.seals > 1
    stored = {show_id("run", row["id"]) for row in await deck.rows(runs)}
    told: list[Any] = [json.loads(row["targets"]) for row in await deck.rows(audit)]
    assert sorted(target for (target,) in told) == sorted(stored)
    await assert_sealed_once(deck)
