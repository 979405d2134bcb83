"""A connection that breaks around a COMMIT: whoever waits learns what really became of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import psycopg
import pytest

from jobdeck.errors import DatabaseUnavailable, OutcomeUnknown
from jobdeck.ids import show_id
from jobdeck.model import CancelEffect, Progress
from jobdeck.states import AttemptOutcome, Status
from jobdeck.store import unknown_outcome
from jobdeck.store.finish import Finish, finish
from jobdeck.store.leases import LeaseCheck, check_lease, report
from jobdeck.store.lists.counts import counts
from jobdeck.store.open import database_of
from jobdeck.store.schema import attempts, commit_marks, leases, run_events, run_logs, runs
from jobdeck.verdict import Ending
from tests.databases import opened
from tests.faults.proxy import CommitCut, Proxy, proxy_before
from tests.store.clients import client_of
from tests.store.deck import Deck, team_of
from tests.store.deck import report as said

pytestmark = pytest.mark.parametrize("database_kind", ["postgresql"])

every_cut = pytest.mark.parametrize("cut", list(CommitCut))


@pytest.fixture
def proxied(database_url: str) -> Iterator[tuple[Proxy, str]]:
    with proxy_before(database_url) as found:
        yield found


@pytest.fixture
def proxy(proxied: tuple[Proxy, str]) -> Proxy:
    return proxied[0]


@pytest.fixture
async def deck(proxied: tuple[Proxy, str]) -> AsyncIterator[Deck]:
    """A team on a database behind a proxy."""
    async with opened(proxied[1]) as database:
        yield await team_of(database, "acme")


def cut_once(proxy: Proxy, kind: str, cut: CommitCut) -> None:
    """The next COMMIT of a transaction of this kind is cut."""
    before = len(proxy.cuts)
    proxy.wanted = lambda kinds: cut if kind in kinds and len(proxy.cuts) == before else None


def was_cut(proxy: Proxy, cut: CommitCut, times: int = 1) -> bool:
    return [how for _, how in proxy.cuts] == [cut] * times


@every_cut
async def test_enqueue(deck: Deck, proxy: Proxy, cut: CommitCut) -> None:
    """The run is there once, and its id comes back; also where it has a single-flight key, which it holds itself."""
    cut_once(proxy, "enqueue", cut)
    run_id = await deck.enqueue(flight_key="main:sync:key")
    assert was_cut(proxy, cut)
    assert [row["id"] for row in await deck.rows(runs)] == [run_id]
    assert [row["run_id"] for row in await deck.rows(run_events)] == [run_id]
    assert await deck.database.read(counts, deck.scope) == {"pending": 1}


@every_cut
async def test_claim(deck: Deck, proxy: Proxy, cut: CommitCut) -> None:
    """The claim brings the run that it has taken, at its first fence."""
    run_id = await deck.enqueue()
    cut_once(proxy, "claim", cut)
    (run,) = await deck.claim()
    assert was_cut(proxy, cut)
    assert (run.id, run.fence) == (run_id, 1)
    assert [(row["run_id"], row["fence"]) for row in await deck.rows(leases)] == [(run_id, 1)]


@every_cut
async def test_finish(deck: Deck, proxy: Proxy, cut: CommitCut) -> None:
    """The outcome is stored once and not refused as that of a lease that is lost."""
    run = await deck.started()
    cut_once(proxy, "finish", cut)
    ended = await deck.finish(run, AttemptOutcome.COMPLETED, result="1")
    assert was_cut(proxy, cut)
    assert (ended.run_id, ended.status) == (run.id, Status.COMPLETED)
    assert [row["outcome"] for row in await deck.rows(attempts)] == ["completed"]
    assert await deck.database.read(counts, deck.scope) == {"completed": 1}


@every_cut
async def test_report(deck: Deck, proxy: Proxy, cut: CommitCut) -> None:
    """Every line is stored, and once."""
    run = await deck.started()
    cut_once(proxy, "report", cut)
    await deck.database.write(report, said(run, "one", "two", progress=Progress(7)))
    assert was_cut(proxy, cut)
    assert [row["message"] for row in await deck.rows(run_logs)] == ["one", "two"]


@pytest.mark.parametrize("cut", [CommitCut.BEFORE, CommitCut.ANSWERED, CommitCut.LATE])
async def test_cancel_and_retry(deck: Deck, proxy: Proxy, cut: CommitCut) -> None:
    """Neither is refused because it has already been done, and neither is done twice."""
    run_id = await deck.enqueue()
    proxy.wanted = lambda kinds: cut if not proxy.cuts else None
    reply = await deck.cancel(run_id)
    assert (reply.cancelled, reply.effect) == (True, CancelEffect.NOW)
    proxy.wanted = lambda kinds: cut if len(proxy.cuts) < 2 else None
    assert await deck.retry(run_id) == run_id
    assert was_cut(proxy, cut, times=2)
    kinds = [row["kind"] for row in await deck.rows(run_events)]
    assert kinds == ["enqueued", "cancelled", "retried"]


async def test_many_at_once(deck: Deck, proxy: Proxy, database_url: str) -> None:
    """Every third COMMIT of 200 writers is cut somewhere: each has its run. The marks of lost lanes go when old."""
    seen = 0

    def every_third(_: frozenset[str]) -> CommitCut | None:
        nonlocal seen
        seen += 1
        return list(CommitCut)[seen // 3 % 4] if seen % 3 == 0 else None

    proxy.wanted = every_third
    ids = [await asyncio.gather(*(deck.enqueue() for _ in range(20))) for _ in range(10)]
    proxy.wanted = lambda kinds: None
    assert len(proxy.cuts) > 3
    assert {row["id"] for row in await deck.rows(runs)} == {run_id for some in ids for run_id in some}
    with psycopg.connect(database_url) as other:
        other.execute("UPDATE commit_marks SET since = 0")
    async with opened(database_url) as later:
        await (await team_of(later, "zebra")).enqueue()
        assert len(await deck.rows(commit_marks)) <= 2


async def test_a_commit_that_always_breaks(deck: Deck, proxy: Proxy) -> None:
    """It is not tried for ever; the error says that nothing is stored, which is so."""
    proxy.wanted = lambda kinds: CommitCut.BEFORE if "enqueue" in kinds else None
    with pytest.raises(DatabaseUnavailable, match="at every commit") as caught:
        await deck.enqueue()
    assert not isinstance(caught.value, OutcomeUnknown)
    assert await deck.rows(runs) == []


async def test_a_database_that_does_not_come_back(
    deck: Deck, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The COMMIT is carried out and nobody can say so: the error says that nobody knows, and names the run."""
    monkeypatch.setattr(unknown_outcome, "_PATIENCE", 0.2)
    client = client_of(deck)
    # Who the actor is has been read by then.
    await client.runs.counts()

    def last(kinds: frozenset[str]) -> CommitCut | None:
        proxy.refusing = True
        return CommitCut.ANSWERED

    proxy.wanted = last
    with pytest.raises(OutcomeUnknown, match="run_") as caught:
        await client.runs.enqueue("sync", {})
    proxy.wanted = lambda kinds: None
    proxy.mend()
    (row,) = await deck.rows(runs)
    assert caught.value.details()["run_ids"] == [show_id("run", row["id"])]


async def test_the_answer_about_a_commit_is_lost_too(deck: Deck, proxy: Proxy) -> None:
    """Asked again, the database still knows: nothing is stored twice."""
    await deck.rows(runs)
    proxy.wanted = lambda kinds: CommitCut.ANSWERED if len(proxy.cuts) < 3 else None
    run_id = await deck.enqueue()
    assert was_cut(proxy, CommitCut.ANSWERED, times=3)
    assert [row["id"] for row in await deck.rows(runs)] == [run_id]
    assert [row["run_id"] for row in await deck.rows(run_events)] == [run_id]


@pytest.mark.parametrize("server", ["refuses", "says nothing"])
async def test_closing_while_nobody_knows(proxied: tuple[Proxy, str], server: str) -> None:
    """Whoever waits for the outcome of a commit is told that nobody knows; closing takes no longer for it."""
    proxy, url = proxied
    database = database_of(url)
    await database.open()
    deck = await team_of(database, "acme")
    run = await deck.started()

    def last(kinds: frozenset[str]) -> CommitCut | None:
        proxy.refusing = server == "refuses"
        return CommitCut.ANSWERED

    proxy.wanted = last
    ending = Finish(run.id, run.fence, Ending(AttemptOutcome.COMPLETED))
    finishing = asyncio.create_task(deck.database.write(finish, ending))
    while not proxy.cuts:
        await asyncio.sleep(0)
    if server == "says nothing":
        proxy.fall_silent()
    async with asyncio.timeout(10):
        await database.close()
        with pytest.raises(OutcomeUnknown):
            await finishing


async def test_what_may_be_asked_again_does_not_wait(deck: Deck, proxy: Proxy) -> None:
    """A look at a lease whose COMMIT got no answer fails at once: the answer would be that of another time."""
    run = await deck.started()
    proxy.wanted = lambda kinds: CommitCut.ANSWERED if not proxy.cuts else None
    with pytest.raises(DatabaseUnavailable):
        await deck.database.write(check_lease, LeaseCheck(run.id, run.fence))
    await deck.database.write(check_lease, LeaseCheck(run.id, run.fence))


async def test_a_worker_waits_longer_than_a_client(
    deck: Deck, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An outcome and an enqueue get no answer: who enqueues is told that nobody knows, the outcome waits."""
    monkeypatch.setattr(unknown_outcome, "_PATIENCE", 0.2)
    run = await deck.started()

    def last(kinds: frozenset[str]) -> CommitCut | None:
        proxy.refusing = True
        return CommitCut.ANSWERED

    proxy.wanted = last
    ending = Finish(run.id, run.fence, Ending(AttemptOutcome.COMPLETED))
    done: asyncio.Future[list[list[Any]]] = asyncio.get_running_loop().create_future()
    asking = asyncio.create_task(deck.enqueue())
    deck.database.submit([(finish, [ending])], done.set_result)
    with pytest.raises(OutcomeUnknown):
        await asking
    assert not done.done()
    proxy.wanted = lambda kinds: None
    proxy.mend()
    ((ended,),) = await done
    assert ended.status is Status.COMPLETED
    assert [(row["status"]) for row in await deck.rows(runs, id=run.id)] == ["completed"]
    assert len(await deck.rows(runs)) == 2


async def test_what_broke_before_the_commit_is_done_again(deck: Deck, proxy: Proxy) -> None:
    """All idle connections are gone: neither a write nor a read of those that follow fails."""
    await deck.enqueue()
    for _ in range(3):
        proxy.cut()
        proxy.mend()
        await deck.enqueue()
        proxy.cut()
        proxy.mend()
        await deck.rows(runs)
    assert len(await deck.rows(runs)) == 4
