"""Any order of acts on runs leads where a small model says, on both databases, and no act leaves the table.

Hypothesis makes up the acts: runs with and without approval, time to live and others to wait for; claims, beats, ends
of every kind by the right worker and by one that has lost its lease, crashes, cancels, decisions, retries, what
holders of tokens do (`token_rules`), and the clock. After every act all runs, leases, waits and counts are compared.
"""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any, ClassVar, TypeVar
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule, run_state_machine_as_test

from jobdeck.errors import Conflict, JobdeckError, NotCancellable, StaleLease
from jobdeck.model import RunExtras
from jobdeck.states import TRANSITIONS, AttemptOutcome, Condition, Status
from jobdeck.store.approvals import Decide, approve, reject
from jobdeck.store.changes import Cancel, RetryRun, cancel, retry
from jobdeck.store.claim import ClaimedRun
from jobdeck.store.database import Database
from jobdeck.store.expiry import Expire, expire
from jobdeck.store.finish import Finish, finish
from jobdeck.store.leases import Beat, beat
from jobdeck.store.lists.counts import counts
from jobdeck.store.open import database_of
from jobdeck.store.queues import NewQueue, create_queue
from jobdeck.store.schema import attempts, leases, run_waits, runs
from jobdeck.verdict import Ending
from tests.databases import PostgresCopies
from tests.model.expected import LEASE_US, Expected, World
from tests.model.token_rules import TokenRules
from tests.store.deck import WORKER, Deck, team_of
from tests.store.pulling import QUEUE

_ENDS = {
    "complete": AttemptOutcome.COMPLETED,
    "fail": AttemptOutcome.ERROR,
    "snooze": AttemptOutcome.SNOOZED,
    "interrupt": AttemptOutcome.INTERRUPTED,
}


T = TypeVar("T")


class Machine(TokenRules):
    """One team on a fresh database, and the model of it."""

    fresh: ClassVar[Callable[[], str]]
    """The URL of an empty database."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.world = World()
        self.held: dict[tuple[UUID, int], ClaimedRun] = {}
        """Every attempt that was ever begun: also those that have ended or were lost."""
        self.seen: dict[UUID, Status] = {}
        self.database: Database = database_of(type(self).fresh(), busy_timeout=30.0)
        self.deck: Deck

    def do(self, act: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(act)

    @initialize()
    def begin(self) -> None:
        self.do(self.database.open())
        self.deck = self.do(team_of(self.database, "acme"))
        queue = NewQueue(self.deck.scope.team_id, QUEUE, pull=True, description="", actor="ann")
        self.do(self.database.write(create_queue, queue))
        # The clock stands still between the acts, so that the model knows it.
        self.database.offset_us = 0
        self.base = self.do(self.deck.now())
        self.passed = 0
        self.tick()

    def tick(self, seconds: float = 1.0) -> None:
        """Go to the next moment: far enough from the last one for all that the act took."""
        self.passed += int(seconds * 1_000_000)

    def now(self) -> int:
        """The moment of the act, by the database's clock, set anew."""
        wanted = self.base + self.passed
        self.database.offset_us += wanted - int(self.do(self.deck.now()))
        return wanted

    def teardown(self) -> None:
        self.do(self.database.close())
        self.loop.close()

    def some(self, index: int) -> Expected | None:
        runs_ = list(self.world.runs.values())
        return runs_[index % len(runs_)] if runs_ else None

    # -- acts ---------------------------------------------------------------------------------------------------------

    @rule(
        approval=st.booleans(), ttl=st.sampled_from([None, None, 40.5, 400.5]), delay=st.sampled_from([0, 0, 0, 60.5]),
        most=st.integers(1, 3), on=st.lists(st.integers(0, 30), max_size=2),
        condition=st.sampled_from(list(Condition)), pulled=st.booleans(),
    )  # fmt: skip
    def enqueue(
        self,
        approval: bool,
        ttl: float | None,
        delay: float,
        most: int,
        on: list[int],
        condition: Condition,
        pulled: bool,
    ) -> None:
        now = self.now()
        others = {run.id: run for index in on if (run := self.some(index)) is not None}
        extras = RunExtras(
            ttl=None if ttl is None else timedelta(seconds=ttl),
            requires_approval=approval,
            after=tuple((run_id, condition) for run_id in others),
        )
        new = self.deck.new_run(max_attempts=most, delay=timedelta(seconds=delay), extras=extras)
        new = new._replace(queue=QUEUE if pulled else new.queue)
        try:
            self.do(self.deck.enqueue(**new._asdict()))
        except Conflict:
            impossible = World()
            probe = Expected(new.id, Status.PENDING, 0, 1, waits=dict.fromkeys(others, condition))
            impossible.runs = {new.id: probe}
            for run in others.values():
                if run.ended:
                    impossible.end(Expected(run.id, run.status, 0, 1), run.status)
            assert probe.status is Status.CANCELLED
            return
        self.world.runs[new.id] = Expected(
            new.id,
            Status.AWAITING_APPROVAL if approval else Status.PENDING,
            now + int(delay * 1_000_000),
            most,
            None if ttl is None else now + int(ttl * 1_000_000),
            {run.id: condition for run in others.values() if not run.ended},
            approval=approval,
            pulled=pulled,
        )
        self.tick()

    @rule(limit=st.integers(1, 4))
    def claim(self, limit: int) -> None:
        now = self.now()
        ready = [run for run in self.world.runs.values() if run.ready(now) and not run.pulled]
        found = self.do(self.deck.claim(limit, lease=LEASE_US / 1_000_000))
        assert len(found) == min(limit, len(ready))
        assert {run.id for run in found} <= {run.id for run in ready}
        for each in found:
            self.world.claim(self.world.runs[each.id], now)
            assert each.fence == self.world.runs[each.id].fence
            self.held[each.id, each.fence] = each
        self.tick()

    @rule(index=st.integers(0, 60), how=st.sampled_from(sorted(_ENDS)), wait=st.sampled_from([0, 5.5, 90.5]))
    def end(self, index: int, how: str, wait: float) -> None:
        """By any attempt there ever was: only that of the present lease may say how it ended."""
        if not self.held:
            return
        now = self.now()
        key = list(self.held)[index % len(self.held)]
        run = self.world.runs[key[0]]
        ending = Ending(_ENDS[how], retry_in_us=int(wait * 1_000_000) if how in ("fail", "snooze") else None)
        (result,) = self.do(self.database.write_many(finish, [Finish(*key, ending)]))
        if not run.with_worker or run.fence != key[1]:
            assert isinstance(result, StaleLease)
            return
        assert not isinstance(result, JobdeckError)
        due_at = now + (int(wait * 1_000_000) if how in ("fail", "snooze") else 0)
        if how == "complete":
            self.world.complete(run)
        elif how == "fail":
            self.world.fail(run, due_at)
        else:
            self.world.give_back(run, due_at)
        self.tick()

    @rule()
    def beat(self) -> None:
        """Extends what has not run out, and tells nothing of what has."""
        now = self.now()
        running = [run for run in self.world.runs.values() if run.status is Status.RUNNING]
        item = Beat(WORKER, tuple(run.id for run in running), LEASE_US, False, len(running), 0, "live")
        kept = {each.run_id for each in self.do(self.database.write(beat, item))}
        assert kept == {run.id for run in running if run.with_worker and run.lease_until > now}
        for run in running:
            if run.id in kept:
                run.lease_until = now + LEASE_US
        self.tick()

    @rule(seconds=st.sampled_from([1, 20, 31, 100]))
    def wait(self, seconds: int) -> None:
        self.tick(seconds)

    @rule()
    def recover(self) -> None:
        now = self.now()
        found = {each.run_id for each in self.do(self.deck.recover())}
        lost = [
            run for run in self.world.runs.values() if run.status is Status.RUNNING and run.lease_until <= now
        ]
        assert found == {run.id for run in lost}
        for run in sorted(lost, key=lambda run: run.id):
            self.world.crash(run, now)
        self.tick()

    @rule()
    def expire(self) -> None:
        now = self.now()
        late = [
            run
            for run in self.world.runs.values()
            if run.status in (Status.PENDING, Status.AWAITING_APPROVAL)
            and run.expires_at is not None
            and run.expires_at <= now
        ]
        assert self.do(self.database.write(expire, Expire("test"))) == len(late)
        for run in late:
            run.status = Status.EXPIRED
        for run in late:
            self.world.end(run, Status.EXPIRED)
        self.tick()

    @rule(index=st.integers(0, 30))
    def cancel(self, index: int) -> None:
        run = self.some(index)
        if run is None:
            return
        self.now()
        item = Cancel(self.deck.scope.team_id, run.id, "ada", None)
        (result,) = self.do(self.database.write_many(cancel, [item]))
        if run.ended:
            assert isinstance(result, NotCancellable)
            return
        assert not isinstance(result, JobdeckError)
        self.world.cancel(run)
        assert result.cancelled == (run.status is Status.CANCELLED)
        self.tick()

    @rule(index=st.integers(0, 30), yes=st.booleans())
    def decide(self, index: int, yes: bool) -> None:
        run = self.some(index)
        if run is None:
            return
        now = self.now()
        item = Decide(self.deck.scope.team_id, run.id, "bob", "because")
        (result,) = self.do(self.database.write_many(approve if yes else reject, [item]))
        late = run.expires_at is not None and run.expires_at <= now
        if run.status is not Status.AWAITING_APPROVAL or late:
            assert isinstance(result, Conflict)
            return
        assert result == run.id
        if yes:
            run.status, run.approval = Status.PENDING, False
        else:
            self.world.end(run, Status.CANCELLED)
        self.tick()

    @rule(index=st.integers(0, 30))
    def retry(self, index: int) -> None:
        run = self.some(index)
        if run is None:
            return
        now = self.now()
        item = RetryRun(self.deck.scope.team_id, run.id, "ada", None)
        (result,) = self.do(self.database.write_many(retry, [item]))
        if Status.PENDING not in TRANSITIONS[run.status] or not run.ended:
            assert isinstance(result, Conflict)
            return
        assert result == run.id
        self.world.retry(run, now)
        self.tick()

    # -- what always holds --------------------------------------------------------------------------------------------

    @invariant()
    def all_is_as_expected(self) -> None:
        if not hasattr(self, "deck"):
            return
        stored = {row["id"]: row for row in self.do(self.deck.rows(runs))}
        assert set(stored) == set(self.world.runs)
        open_waits = Counter(row["run_id"] for row in self.do(self.deck.rows(run_waits)) if row["open"])
        for run in self.world.runs.values():
            row = stored[run.id]
            found = (row["status"], row["fence"], row["failures"], row["crash_count"], row["blocked"])
            assert found == (run.status, run.fence, run.failures, run.crashes, len(run.waits))
            assert open_waits[run.id] == len(run.waits)
            before = self.seen.get(run.id, run.status)
            assert run.status is before or run.status in TRANSITIONS[before]
            self.seen[run.id] = run.status
        held = {(row["run_id"], row["fence"]) for row in self.do(self.deck.rows(leases))}
        running = {(run.id, run.fence) for run in self.world.runs.values() if run.status is Status.RUNNING}
        assert held == running
        ended = {(row["run_id"], row["fence"]) for row in self.do(self.deck.rows(attempts))}
        assert ended == set(self.held) - running

    @invariant()
    def what_is_counted_is_there(self) -> None:
        if not hasattr(self, "deck"):
            return
        told = self.do(self.database.read(counts, self.deck.scope))
        real = Counter(str(run.status) for run in self.world.runs.values())
        assert {name: number for name, number in told.items() if number} == dict(real)


@pytest.mark.timeout(600)
def test_any_order_of_acts(database_kind: str, tmp_path: Any, request: pytest.FixtureRequest) -> None:
    """See the module. Fewer examples on the server, where each act takes longer."""
    made: list[str] = []

    def sqlite() -> str:
        path = tmp_path / f"{len(made)}.db"
        shutil.copy2(request.getfixturevalue("sqlite_template"), path)
        made.append(str(path))
        return f"sqlite:///{path}"

    def postgres() -> str:
        copies: PostgresCopies = request.getfixturevalue("postgres_copies")
        while made:
            copies.give_back(made.pop())
        made.append(copies.take())
        return made[-1]

    Machine.fresh = staticmethod(sqlite if database_kind == "sqlite" else postgres)
    chosen = settings(
        max_examples=60 if database_kind == "sqlite" else 25,
        stateful_step_count=40,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Machine, settings=chosen)
