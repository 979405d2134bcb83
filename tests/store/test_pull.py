"""Pull queues: who takes their runs, and what the token of a claim may do, how often, and how long."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from jobdeck import limits
from jobdeck.client import Client
from jobdeck.clock import from_us
from jobdeck.errors import Conflict, NotFound, NotParked, StaleLease, ValidationError
from jobdeck.ids import new_id
from jobdeck.model import RunExtras, RunFilter
from jobdeck.pull import new_token
from jobdeck.retry import Backoff, Growth
from jobdeck.states import AttemptOutcome, FailureKind, Status
from jobdeck.store.finish import Finish, finish
from jobdeck.store.leases import Beat, beat
from jobdeck.store.schema import acks, attempts, leases, runs
from jobdeck.verdict import Ending
from tests.store.clients import client_of
from tests.store.deck import Deck, execute_statement, team_of
from tests.store.fleet import join
from tests.store.pulling import QUEUE, claimed


@pytest.fixture
async def client(deck: Deck) -> AsyncIterator[Client]:
    """Ada's client of a team with a pull queue."""
    made = client_of(deck)
    await made.queues.create(QUEUE, pull=True)
    yield made
    made.close()


async def test_workers_leave_a_pull_queue_alone(client: Client, deck: Deck) -> None:
    """Workers for all queues and for this very one take nothing of it, and of every other queue what is due."""
    await deck.enqueue(queue=QUEUE)
    other = await deck.enqueue(queue="inside", priority=9)
    assert [run.id for run in await deck.claim(5)] == [other]
    assert await deck.claim(5, queues=(QUEUE, "inside")) == []


async def test_the_same_name_in_another_team_is_another_queue(client: Client, deck: Deck) -> None:
    """A pull queue of one team keeps nothing from the workers of another one, and gives it nothing."""
    theirs = await team_of(deck.database, "rivals")
    mine, other = await deck.enqueue(queue=QUEUE), await theirs.enqueue(queue=QUEUE)
    assert [run.id for run in await deck.claim(5)] == [other]
    stranger = client_of(theirs)
    with pytest.raises(NotFound, match=f"jobdeck queues create {QUEUE} --pull"):
        await stranger.queues.claim(QUEUE)
    stranger.close()
    assert [work.run_id for work in await client.queues.claim(QUEUE, count=5)] == [mine]


async def test_what_a_claim_gives(client: Client, deck: Deck) -> None:
    """Due runs of any type by priority, due time and id, with params, token and end; the run is at its next attempt."""
    late = await deck.enqueue(queue=QUEUE, priority=9, job_type="mail")
    first = await deck.enqueue(queue=QUEUE, priority=1, params='{"key":"secret://API_KEY"}')
    second = await deck.enqueue(queue=QUEUE)
    third = await deck.enqueue(queue=QUEUE)
    await deck.enqueue(queue=QUEUE, priority=1, delay=timedelta(hours=1))
    await deck.enqueue(queue=QUEUE, priority=1, extras=RunExtras(ttl=timedelta(microseconds=1)))
    found = await client.queues.claim(QUEUE, count=3, visibility=timedelta(minutes=1), worker="crane 7")
    assert [work.run_id for work in found] == [first, second, third]
    assert [work.run_id for work in await client.queues.claim(QUEUE, count=100)] == [late]
    assert found[0].params == {"key": "secret://API_KEY"}
    assert len({work.token for work in found}) == 3
    run = await deck.show(first)
    assert (run.status, run.attempt, run.worker_id) == (Status.RUNNING, 1, None)
    assert [attempt.worker for attempt in run.attempts] == ["crane 7"]
    (lease,) = await deck.rows(leases, run_id=first)
    assert found[0].lease_until == from_us(lease["lease_until"])
    assert lease["lease_until"] - lease["claimed_at"] == 60_000_000
    assert (lease["worker_id"], lease["fence"]) == (None, 1)


async def test_only_the_digest_of_a_token_is_stored(client: Client, deck: Deck) -> None:
    """No table has the token itself; tokens are of 128 random bits and go into a URL as they are."""
    work = await claimed(client, deck)
    await client.queues.complete(work.run_id, work.token)
    again = await claimed(client, deck)
    (lease,) = await deck.rows(leases)
    assert lease["token_hash"] == hashlib.sha256(again.token.encode()).hexdigest()
    stored = repr([await deck.rows(table) for table in (runs, leases, attempts, acks)])
    assert work.token not in stored
    assert again.token not in stored
    made = {new_token() for _ in range(1_000)}
    assert len(made) == 1_000
    assert all(token.startswith("ack_") and len(token) == 4 + 22 and token.isascii() for token in made)


async def test_claims_that_compete_never_get_the_same(client: Client, deck: Deck) -> None:
    """Many programs claim at the same time: every run is given to one of them, with a token of its own."""
    ids = await deck.enqueue_many(60, queue=QUEUE)
    found = await asyncio.gather(*(client.queues.claim(QUEUE, count=4) for _ in range(20)))
    works = [work for each in found for work in each]
    assert sorted(work.run_id for work in works) == sorted(ids)
    assert len({work.token for work in works}) == len(ids)
    await asyncio.gather(*(client.queues.complete(work.run_id, work.token) for work in works))
    assert {row["status"] for row in await deck.rows(runs)} == {Status.COMPLETED}


async def test_completed(client: Client, deck: Deck) -> None:
    """The result is stored, with an attempt of the claimer; the run has ended and nothing of the lease is left."""
    work = await claimed(client, deck)
    reply = await client.queues.complete(work.run_id, work.token, {"rows": 7})
    assert (reply.status, reply.due_at, reply.cancel_requested) == (Status.COMPLETED, None, False)
    run = await deck.show(work.run_id)
    assert (run.status, run.result, run.failures) == (Status.COMPLETED, {"rows": 7}, 0)
    (attempt,) = run.attempts
    assert (attempt.outcome, attempt.worker_id) == ("completed", None)
    assert attempt.worker == f"ada@{socket.gethostname()}"
    assert await deck.rows(leases) == []


async def test_a_result_is_checked_like_any(client: Client, deck: Deck) -> None:
    """One that no database could hold, or that is too large, is refused, and the run can still be ended."""
    work = await claimed(client, deck)
    for wrong in ("x" * limits.RESULT_BYTES, {"a": "\0"}, {"n": 2**60}):
        with pytest.raises(ValidationError, match="result"):
            await client.queues.complete(work.run_id, work.token, wrong)
    largest = "x" * (limits.RESULT_BYTES - 2)
    assert (await client.queues.complete(work.run_id, work.token, largest)).status is Status.COMPLETED


async def test_failed_goes_by_the_retry_rule(client: Client, deck: Deck) -> None:
    """A failure waits for its next attempt as the run's backoff says; the last one ends the run as dead."""
    backoff = Backoff(growth=Growth.FIXED, base=40.0)
    extras = RunExtras(backoff=json.dumps(backoff.facts()))
    work = await claimed(client, deck, max_attempts=2, extras=extras)
    reply = await client.queues.fail(work.run_id, work.token, "no paper\x1b[31m")
    assert reply.status is Status.PENDING
    assert reply.due_at is not None
    run = await deck.show(work.run_id)
    assert (run.label, run.failures, run.crash_count, run.due_at) == ("retrying", 1, 0, reply.due_at)
    assert run.attempts[0].error == "no paper\\x1b[31m"
    assert await client.queues.claim(QUEUE) == []
    deck.forward(41)
    (again,) = await client.queues.claim(QUEUE)
    assert (again.run_id, again.attempt) == (work.run_id, 2)
    assert again.token != work.token
    assert (await client.queues.fail(again.run_id, again.token, "no ink")).status is Status.DEAD
    run = await deck.show(work.run_id)
    assert (run.failure_kind, run.error) == (FailureKind.ERROR, "no ink")


async def test_failed_for_good_or_after_a_stated_wait(client: Client, deck: Deck) -> None:
    """`retry=False` ends the run as failed; `after` states the wait itself."""
    one, other = await claimed(client, deck), await claimed(client, deck)
    reply = await client.queues.fail(one.run_id, one.token, "never", retry=False)
    assert reply.status is Status.FAILED
    before = await deck.now()
    reply = await client.queues.fail(other.run_id, other.token, "later", after=timedelta(minutes=5))
    assert reply.due_at is not None
    assert reply.due_at >= from_us(before + 300_000_000)


async def test_the_same_ack_twice(client: Client, deck: Deck) -> None:
    """It changes nothing and is given the same reply, also after the run has gone on; another outcome is refused."""
    work = await claimed(client, deck)
    first = await client.queues.fail(work.run_id, work.token, "no paper")
    assert await client.queues.fail(work.run_id, work.token, "no paper") == first
    deck.forward(3_600)
    (again,) = await client.queues.claim(QUEUE)
    before = await deck.rows(runs)
    assert await client.queues.fail(work.run_id, work.token, "no paper") == first
    for other in (
        client.queues.complete(work.run_id, work.token),
        client.queues.fail(work.run_id, work.token, "no ink"),
        client.queues.fail(work.run_id, work.token, "no paper", retry=False),
        client.queues.extend(work.run_id, work.token),
    ):
        with pytest.raises(StaleLease):
            await other
    assert await deck.rows(runs) == before
    assert (await client.queues.complete(again.run_id, again.token, 1)).status is Status.COMPLETED


async def test_the_same_ack_at_the_same_time(client: Client, deck: Deck) -> None:
    """Of many that come together one ends the attempt; all are given its reply."""
    work = await claimed(client, deck)
    replies = await asyncio.gather(*(client.queues.complete(work.run_id, work.token, 1) for _ in range(20)))
    assert len(set(replies)) == 1
    assert len(await deck.rows(attempts)) == 1
    (row,) = await deck.rows(runs)
    again = await claimed(client, deck)
    both = await asyncio.gather(
        client.queues.complete(again.run_id, again.token, 1),
        client.queues.fail(again.run_id, again.token, "no"),
        return_exceptions=True,
    )
    assert [type(each) for each in both].count(StaleLease) == 1
    assert row["status"] == Status.COMPLETED


async def test_what_is_not_the_current_token(client: Client, deck: Deck) -> None:
    """Forged, another run's, after the end, after the next claim: StaleLease; unknown and foreign runs: NotFound."""
    work, other = await claimed(client, deck), await claimed(client, deck)
    before = await deck.rows(runs), await deck.rows(leases)
    for token in (new_token(), other.token, "", "ack_\ud800"):
        for act in (client.queues.complete, client.queues.extend):
            with pytest.raises(StaleLease):
                await act(work.run_id, token)
        with pytest.raises(StaleLease):
            await client.queues.fail(work.run_id, token, "no")
    stranger = client_of(await team_of(deck.database, "rivals"))
    for who, run_id in ((client, new_id()), (stranger, work.run_id)):
        with pytest.raises(NotFound, match="in this team"):
            await who.queues.complete(run_id, work.token)
        with pytest.raises(NotFound, match="in this team"):
            await who.queues.extend(run_id, work.token)
    stranger.close()
    assert (await deck.rows(runs), await deck.rows(leases)) == before
    deck.forward(limits.VISIBILITY)
    with pytest.raises(StaleLease):
        await client.queues.complete(work.run_id, work.token)
    taken = await client.queues.claim(QUEUE, count=2)
    assert {each.run_id for each in taken} == {work.run_id, other.run_id}
    with pytest.raises(StaleLease):
        await client.queues.complete(work.run_id, work.token)
    for each in taken:
        await client.queues.complete(each.run_id, each.token)


async def test_expiry_returns_the_run(client: Client, deck: Deck) -> None:
    """What is not acked in time counts as a crash and says whose; the third one is the last."""
    run_id = await deck.enqueue(queue=QUEUE)
    for number in range(1, limits.CRASH_BUDGET + 1):
        (work,) = await client.queues.claim(QUEUE, visibility=2, worker="crane 7")
        assert work.run_id == run_id
        deck.forward(2.5)
        # By a worker; without one, by the next program that claims.
        if number == 1:
            assert [ended.status for ended in await deck.recover()] == [Status.PENDING]
    assert await client.queues.claim(QUEUE) == []
    run = await deck.show(run_id)
    assert (run.status, run.crash_count, run.failures) == (Status.DEAD, 3, 0)
    assert run.error == "crane 7 claimed it and did not ack it within 2 s"
    assert [attempt.outcome for attempt in run.attempts] == ["crashed"] * 3


async def test_a_claim_takes_no_run_from_a_worker(client: Client, deck: Deck) -> None:
    """A program that looks once cannot tell a silent worker from a clock that was set; a worker's look can."""
    run = await deck.started()
    work = await claimed(client, deck)
    deck.forward(7_200)
    (again,) = await client.queues.claim(QUEUE)
    assert again.run_id == work.run_id
    assert (await deck.show(run.id)).status is Status.RUNNING
    assert [ended.run_id for ended in await deck.recover()] == [run.id]


async def test_extending(client: Client, deck: Deck) -> None:
    """Moves the end to so long from now, again and again; not once it is over."""
    work = await claimed(client, deck)
    for _ in range(3):
        deck.forward(25)
        reply = await client.queues.extend(work.run_id, work.token, timedelta(seconds=40))
        (lease,) = await deck.rows(leases)
        assert reply.lease_until == from_us(lease["lease_until"])
        assert lease["lease_until"] - lease["beat_at"] == 40_000_000
        assert await deck.recover() == []
    deck.forward(41)
    with pytest.raises(StaleLease):
        await client.queues.extend(work.run_id, work.token)


async def test_a_cancel_is_told_and_kept(client: Client, deck: Deck) -> None:
    """It is a request: extend and ack tell of it. completed stays completed; a failure or silence ends cancelled."""
    works = [await claimed(client, deck) for _ in range(3)]
    for work in works:
        reply = await deck.cancel(work.run_id, "enough")
        assert (reply.cancelled, reply.effect) == (False, "requested")
        assert (await client.queues.extend(work.run_id, work.token)).cancel_requested
        assert (await deck.show(work.run_id)).label == "cancelling"
    done, failed, silent = works
    ended = await client.queues.complete(done.run_id, done.token)
    assert (ended.status, ended.cancel_requested) == (Status.COMPLETED, True)
    ended = await client.queues.fail(failed.run_id, failed.token, "stopped")
    assert (ended.status, ended.cancel_requested) == (Status.CANCELLED, True)
    deck.forward(31)
    await deck.recover()
    assert (await deck.show(silent.run_id)).status is Status.CANCELLED


async def test_a_run_of_a_worker_has_no_token(client: Client, deck: Deck) -> None:
    """What a worker runs cannot be ended from outside, nor what waits; a queue of workers is not claimed from."""
    waiting, running = await deck.enqueue(), await deck.started(priority=1)
    known = client.queues
    with pytest.raises(NotParked, match="try again"):
        await known.extend(running.id, new_token())
    with pytest.raises(StaleLease):
        await known.complete(waiting, new_token())
    await known.create("inside")
    with pytest.raises(Conflict, match="workers take the runs of 'inside'"):
        await known.claim("inside")


async def test_what_was_not_approved_is_not_given(client: Client, deck: Deck) -> None:
    """A row that was changed behind the approval ends as rejected, as with a worker; its neighbours are given."""
    tampered = await deck.enqueue(queue=QUEUE)
    good = await deck.enqueue(queue=QUEUE)
    changed = runs.update().where(runs.c.id == tampered)
    await deck.database.write(
        execute_statement, changed.values(requires_approval=True, approved_hash="0" * 64)
    )
    (work,) = await client.queues.claim(QUEUE, count=5)
    assert work.run_id == good
    run = await deck.show(tampered)
    assert (run.status, run.failure_kind) == (Status.FAILED, FailureKind.REJECTED)
    await client.queues.complete(good, work.token)


@pytest.mark.parametrize("count", [0, limits.CLAIM_MAX + 1])
async def test_how_many_at_once(client: Client, count: int) -> None:
    """One to a hundred; what lies outside is refused before anything is taken."""
    with pytest.raises(ValidationError, match="a claim takes 1 to 100 runs"):
        await client.queues.claim(QUEUE, count=count)


async def test_how_long(client: Client, deck: Deck) -> None:
    """A visibility lies between 1 s and 12 h, both included."""
    await deck.enqueue_many(2, queue=QUEUE)
    for wrong in (0.9, limits.VISIBILITY_MAX + 1):
        with pytest.raises(ValidationError, match="between 1 s and 12 h"):
            await client.queues.claim(QUEUE, visibility=wrong)
    for right in (limits.VISIBILITY_MIN, limits.VISIBILITY_MAX):
        assert len(await client.queues.claim(QUEUE, visibility=right)) == 1


async def test_queues_as_people_see_them(client: Client, deck: Deck) -> None:
    """Declared ones and those that runs have made, with what waits and runs there; others have theirs."""
    await deck.enqueue(queue="made", delay=timedelta(hours=1))
    await deck.enqueue(queue="done")
    (run,) = await deck.claim()
    await deck.finish(run)
    await (await team_of(deck.database, "rivals")).enqueue(queue="theirs")
    work = await claimed(client, deck)
    due = await deck.show(await deck.enqueue(queue=QUEUE))
    await deck.enqueue(queue=QUEUE, extras=RunExtras(requires_approval=True))
    found = {queue.name: queue for queue in await client.queues.list()}
    assert list(found) == ["made", QUEUE]
    assert (found["made"].declared, found["made"].pull, found["made"].waiting) == (False, False, 1)
    assert found["made"].oldest_due_at is None
    outside = found[QUEUE]
    assert (outside.declared, outside.pull, outside.waiting, outside.running) == (True, True, 2, 1)
    assert (outside.oldest_due_at, outside.created_by) == (due.due_at, "ada")
    assert await client.queues.show(QUEUE) == outside
    await client.queues.complete(work.run_id, work.token)
    with pytest.raises(NotFound):
        await client.queues.show("theirs")


async def test_names_of_queues(client: Client) -> None:
    """At most 128 letters, digits, '-' and '_'; each once."""
    longest = "q" * limits.QUEUE_CHARS
    assert (await client.queues.create(longest, description="d" * limits.REASON_CHARS)).name == longest
    for wrong in ("", "a b", "q" * (limits.QUEUE_CHARS + 1), "ä"):
        with pytest.raises(ValidationError, match="queue"):
            await client.queues.create(wrong)
    with pytest.raises(ValidationError, match="description"):
        await client.queues.create("other", description="d" * (limits.REASON_CHARS + 1))
    with pytest.raises(Conflict, match="already"):
        await client.queues.create(QUEUE)


async def test_a_queue_goes_only_when_nothing_comes_back(client: Client, deck: Deck) -> None:
    """Runs that wait keep it, and so do those that programs hold. After it, its name is one for workers."""
    with pytest.raises(NotFound):
        await client.queues.delete("nowhere")
    work = await claimed(client, deck)
    waiting = await deck.enqueue(queue=QUEUE)
    with pytest.raises(Conflict, match="1 run waits in"):
        await client.queues.delete(QUEUE)
    await deck.cancel(waiting)
    with pytest.raises(Conflict, match="programs hold 1 run of 'outside'"):
        await client.queues.delete(QUEUE)
    await client.queues.complete(work.run_id, work.token)
    await client.queues.delete(QUEUE)
    again = await deck.enqueue(queue=QUEUE)
    assert [run.id for run in await deck.claim()] == [again]
    await client.queues.create(QUEUE + "2")
    await client.queues.delete(QUEUE + "2")


async def test_a_run_of_workers_keeps_no_queue_of_theirs(client: Client, deck: Deck) -> None:
    """It comes back to them, whether the queue is declared or not."""
    await client.queues.create("inside")
    await deck.enqueue(queue="inside")
    await deck.claim()
    await client.queues.delete("inside")


async def test_a_queue_that_a_limit_has_made_can_become_a_pull_queue(client: Client, deck: Deck) -> None:
    """While runs wait there, but not while workers hold some; the limit stays, and what was said is said once."""
    await client.queues.limit("mail", 3)
    held, waiting = await deck.enqueue(queue="mail"), await deck.enqueue(queue="mail", priority=9)
    (run,) = await deck.claim()
    assert run.id == held
    with pytest.raises(Conflict, match="workers hold 1 run of 'mail'"):
        await client.queues.create("mail", pull=True)
    await deck.finish(run)
    with pytest.raises(Conflict, match="already"):
        await client.queues.create("mail")
    made = await client.queues.create("mail", pull=True, description="of the post office")
    assert (made.pull, made.max_concurrency, made.waiting) == (True, 3, 1)
    assert await deck.claim() == []
    assert [work.run_id for work in await client.queues.claim("mail")] == [waiting]
    for pull in (False, True):
        with pytest.raises(Conflict, match="already"):
            await client.queues.create("mail", pull=pull, description="another")
    assert (await client.queues.show("mail")).description == "of the post office"


async def test_no_limit_declares_no_queue(client: Client, deck: Deck) -> None:
    """Neither of a name that nobody knows, nor of one that only runs have."""
    with pytest.raises(NotFound):
        await client.queues.limit("nowhere", None)
    await deck.enqueue(queue="inside")
    assert not (await client.queues.limit("inside", None)).declared
    assert (await client.queues.limit("inside", 2)).declared
    assert (await client.queues.limit("inside", None)).max_concurrency is None


async def test_it_waits_for_no_worker(client: Client, deck: Deck) -> None:
    """A run of a pull queue is pending, not held; why names the claim, and afterwards the ack and its end."""
    run_id = await deck.enqueue(queue=QUEUE)
    held = await deck.enqueue()
    assert (await deck.show(run_id)).label == "pending"
    chosen = await client.runs.list(RunFilter(statuses=frozenset({"held"})))
    assert [run.id for run in chosen.runs] == [held]
    (reason,) = await client.runs.why(run_id)
    assert (reason.kind, reason.command) == ("pull", f"jobdeck claim {QUEUE}")
    await join(deck.database)
    assert [reason.kind for reason in await client.runs.why(run_id)] == ["pull"]
    await client.queues.claim(QUEUE, worker="crane 7")
    (reason,) = await client.runs.why(run_id)
    assert reason.kind == "token"
    assert reason.text.startswith("crane 7 has claimed it, and has to ack it in ")


async def test_no_worker_speaks_for_a_claimed_run(client: Client, deck: Deck) -> None:
    """Neither the fence alone nor a beat does anything to a run that is held by a token."""
    work = await claimed(client, deck)
    (lease,) = await deck.rows(leases)
    ending = Ending(AttemptOutcome.COMPLETED)
    (result,) = await deck.database.write_many(finish, [Finish(work.run_id, lease["fence"], ending)])
    assert isinstance(result, StaleLease)
    item = Beat(new_id(), (work.run_id,), 30_000_000, False, 1, 0, "live")
    assert await deck.database.write(beat, item) == []
    assert await deck.rows(leases) == [lease]
