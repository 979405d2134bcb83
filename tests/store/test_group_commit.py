"""Group commit: whatever waits is one transaction, and yet everybody gets the answer to what they asked."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, insert

from jobdeck.errors import Conflict, DatabaseUnavailable, JobdeckError
from jobdeck.ids import new_id
from jobdeck.store.batch import Group, Results
from jobdeck.store.database import Database
from jobdeck.store.enqueue import enqueue
from jobdeck.store.schema import runs, teams
from jobdeck.store.scopes import list_teams
from jobdeck.store.transaction import Hint, Rank, Tx, verb
from tests.databases import opened
from tests.store.deck import Deck


@pytest.fixture
def commits() -> Iterator[list[Connection]]:
    """One entry for each commit of any connection."""
    seen: list[Connection] = []

    def note(conn: Connection) -> None:
        seen.append(conn)

    event.listen(Engine, "commit", note)
    yield seen
    event.remove(Engine, "commit", note)


@verb(Rank.CHANGE)
def add_team(tx: Tx, items: Sequence[str]) -> Sequence[str | JobdeckError]:
    """Insert, then fail in the way the slug names."""
    for slug in items:
        tx.conn.execute(insert(teams), {"id": new_id(), "slug": slug, "name": slug, "created_at": tx.now})
    if "bug" in items:
        raise ZeroDivisionError("a bug in a verb")
    return [Conflict(slug) if slug.startswith("conflict") else f"did {slug}" for slug in items]


class _Lost(Exception):
    """As the driver tells the victim of a deadlock."""

    sqlstate = "40P01"


async def test_who_loses_with_others_again_and_again_is_tried_without_them(deck: Deck) -> None:
    """A batch that is the victim of a deadlock at every try is split: each item alone is stored."""
    tried: list[int] = []

    @verb(Rank.CHANGE)
    def crowded(tx: Tx, items: Sequence[str]) -> Sequence[str]:
        tried.append(len(items))
        if len(items) > 1:
            raise _Lost
        return items

    assert await deck.database.write_many(crowded, ["one", "two", "three"]) == ["one", "two", "three"]
    assert tried == [3] * 4 + [1] + [2] * 4 + [1, 1]


async def slugs(database: Database) -> set[str]:
    return {team.slug for team in await database.read(list_teams)}


async def test_many_writers_share_few_commits(deck: Deck, commits: list[Connection]) -> None:
    """300 writers at once are a handful of transactions, and each is given the id it asked for."""
    items = [deck.new_run() for _ in range(300)]
    commits.clear()
    results = await asyncio.gather(*(deck.database.write(enqueue, item) for item in items))
    assert results == [item.id for item in items]
    assert 1 <= len(commits) <= 4
    assert len(await deck.rows(runs)) == 300


async def test_one_bad_item_among_fifty_fails_alone(database: Database) -> None:
    """A verb that breaks on one of 50 items: that waiter gets the error, 49 get their answers, 49 are stored."""
    names = [f"team{n}" for n in range(50)]
    names[13] = "bug"
    results = await asyncio.gather(
        *(database.write(add_team, name) for name in names), return_exceptions=True
    )
    assert isinstance(results[13], ZeroDivisionError)
    good = [name for name in names if name != "bug"]
    assert [result for result in results if isinstance(result, str)] == [f"did {name}" for name in good]
    assert await slugs(database) == set(good)


def test_a_batch_is_answered_once() -> None:
    """Two connections that share a batch may both see it complete; its waiter is still told only once."""
    told: list[Results] = []
    group = Group([(add_team, ["a", "b"])], told.append)
    complete = []
    for start, result in ((1, "did b"), (0, "did a"), (0, "did a again")):
        group.settle(0, start, [result])
        complete.append(group.complete)
    assert complete == [False, True, True]
    group.deliver()
    group.deliver()
    assert told == [[["did a", "did b"]]]


async def test_a_refusal_of_the_verb_is_no_failure_of_the_transaction(database: Database) -> None:
    """A JobdeckError as a result is raised at its own waiter; what the transaction did stays."""
    results = await asyncio.gather(
        *(database.write(add_team, name) for name in ("a", "conflict", "b")), return_exceptions=True
    )
    assert isinstance(results[1], Conflict)
    assert results[::2] == ["did a", "did b"]
    assert await slugs(database) == {"a", "conflict", "b"}


async def test_a_batch_with_a_bug_in_it_is_answered_item_by_item(
    database: Database, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`write_many` gives every item its own answer; what is no error of jobdeck's becomes one that says what it was.

    That it took many transactions is said once a minute, without what stands in the rows.
    """
    monkeypatch.setattr("jobdeck.store.batch._told_halved", {})
    first, bad, last = await database.write_many(add_team, ["a", "bug", "b"])
    assert (first, last) == ("did a", "did b")
    assert isinstance(bad, JobdeckError)
    assert "ZeroDivisionError" in bad.message
    assert await slugs(database) == {"a", "b"}
    assert caplog.text.count("made in halves") == 1
    assert "3 changes (add_team) failed together and are made in halves: ZeroDivisionError" in caplog.text
    await database.write_many(add_team, ["c", "bug"])
    assert caplog.text.count("made in halves") == 1


async def test_a_verb_that_forgets_an_answer_is_found_out(database: Database) -> None:
    """A verb must answer every item: one that does not is an error for its waiter, not somebody else's answer."""

    @verb(Rank.CHANGE)
    def forgetful(tx: Tx, items: Sequence[str]) -> Sequence[str]:
        return items[:-1]

    results = await asyncio.gather(
        *(database.write(forgetful, name) for name in "abc"),
        *(database.write(add_team, name) for name in "xyz"),
        return_exceptions=True,
    )
    assert all(isinstance(result, RuntimeError) for result in results[:3])
    assert results[3:] == ["did x", "did y", "did z"]


@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_what_keeps_leases_alive_goes_first(database: Database) -> None:
    """Inside one transaction verbs run by rank, and inside a rank in the order of arrival."""
    order: list[Any] = []

    def note(rank: Rank) -> Any:
        def run(tx: Tx, items: Sequence[int]) -> Sequence[int]:
            order.append((rank, tuple(items)))
            return items

        run.__name__ = rank.name
        return verb(rank)(run)

    held, let_go = threading.Event(), threading.Event()

    @verb(Rank.CHANGE)
    def hold(tx: Tx, items: Sequence[None]) -> Sequence[None]:
        held.set()
        let_go.wait(30)
        return items

    verbs = {rank: note(rank) for rank in Rank}
    # All of them wait while the writer is busy.
    holding = asyncio.create_task(database.write(hold, None))
    await asyncio.to_thread(held.wait, 30)
    writes = [
        asyncio.create_task(database.write(verbs[rank], n)) for n in range(2) for rank in reversed(Rank)
    ]
    await asyncio.sleep(0)
    let_go.set()
    await asyncio.gather(holding, *writes)
    assert order == [(rank, (0, 1)) for rank in Rank]


async def test_closing_commits_what_waits(database_url: str) -> None:
    """Writes under way when the database is closed are committed and answered, later ones and reads are refused."""
    async with opened(database_url) as database:
        waiting = [asyncio.create_task(database.write(add_team, f"team{n}")) for n in range(20)]
        first = await waiting[0]
        await database.close()
        assert first == "did team0"
        assert [await task for task in waiting] == [f"did team{n}" for n in range(20)]
        with pytest.raises(DatabaseUnavailable, match="closed"):
            await database.write(add_team, "late")
        with pytest.raises(DatabaseUnavailable, match="closed"):
            await slugs(database)
    async with opened(database_url) as database:
        assert await slugs(database) == {f"team{n}" for n in range(20)}


async def test_a_listener_that_breaks_hurts_nobody(database: Database) -> None:
    """Whoever commits is not harmed by a listener's bug: the next write is answered as well, and so are listeners."""
    heard = asyncio.Event()
    loop = asyncio.get_running_loop()

    def broken(_hint: Hint) -> None:
        raise ValueError("a bug in a listener")

    def sound(_hint: Hint) -> None:
        loop.call_soon_threadsafe(heard.set)

    @verb(Rank.CHANGE)
    def loud(tx: Tx, items: Sequence[str]) -> Sequence[str]:
        tx.hint(Hint.WORK)
        return items

    database.signals.listen(broken)
    database.signals.listen(sound)
    writes = [asyncio.create_task(database.write(loud, name)) for name in "ab"]
    await asyncio.wait_for(heard.wait(), 20)
    done, _ = await asyncio.wait([*writes, asyncio.create_task(database.write(loud, "c"))], timeout=20)
    assert {task.result() for task in done} == {"a", "b", "c"}


async def test_reads_see_one_moment(deck: Deck, database_url: str) -> None:
    """Two queries of one read see the same state, also when somebody commits between them."""
    await deck.enqueue_many(3)

    def twice(conn: Connection) -> tuple[int, int]:
        first = len(conn.execute(runs.select()).all())
        asyncio.run_coroutine_threadsafe(deck.enqueue(), loop).result(20)
        return first, len(conn.execute(runs.select()).all())

    loop = asyncio.get_running_loop()
    counted = await asyncio.to_thread(lambda: asyncio.run(_read_elsewhere(database_url, twice)))
    assert counted == (3, 3)
    assert len(await deck.rows(runs)) == 4


async def _read_elsewhere(url: str, query: Any) -> Any:
    async with opened(url) as database:
        return await database.read(query)
