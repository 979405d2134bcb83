"""The acts of those who hold runs by a token: claims from a pull queue, parking, ack and extend by any token ever."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from jobdeck.errors import JobdeckError, NotParked, StaleLease
from jobdeck.pull import AckReply
from jobdeck.retry import Backoff, Growth
from jobdeck.states import AttemptOutcome, Status
from jobdeck.store.claim import ClaimedRun
from jobdeck.store.database import Database
from jobdeck.store.tokens.pull import Ack, Extend, PullClaim, ack, claim_pulled, extend
from jobdeck.verdict import Ending
from tests.model.expected import LEASE_US, RETRY_US, Expected, World
from tests.store.deck import Deck
from tests.store.pulling import QUEUE, park

T = TypeVar("T")

_BACKOFF = Backoff(growth=Growth.FIXED, base=RETRY_US / 1_000_000)
_SAID = {
    "complete": Ending(AttemptOutcome.COMPLETED),
    "fail": Ending(AttemptOutcome.ERROR, error="no"),
}


class TokenRules(RuleBasedStateMachine):
    """Part of the machine."""

    world: World
    held: dict[tuple[UUID, int], ClaimedRun]
    database: Database
    deck: Deck

    def __init__(self) -> None:
        super().__init__()
        self.tokens: list[tuple[UUID, str]] = []
        """Every token there ever was."""
        self.said: dict[str, tuple[str, AckReply]] = {}

    def do(self, act: Coroutine[Any, Any, T]) -> T:
        raise NotImplementedError

    def now(self) -> int:
        raise NotImplementedError

    def tick(self, seconds: float = 1.0) -> None:
        raise NotImplementedError

    def new_token(self, run: Expected) -> str:
        """What stands for the digest of a token of this run."""
        self.tokens.append((run.id, f"token {len(self.tokens)}"))
        return self.tokens[-1][1]

    @rule(limit=st.integers(1, 4))
    def claim_from_queue(self, limit: int) -> None:
        now = self.now()
        ready = [run for run in self.world.runs.values() if run.pulled and run.ready(now)]
        digests = tuple(f"token {len(self.tokens) + number}" for number in range(limit))
        item = PullClaim(self.deck.scope.team_id, QUEUE, "ann", LEASE_US, digests, lambda _type: _BACKOFF)
        found = self.do(self.database.write(claim_pulled, item))
        assert len(found) == min(limit, len(ready))
        assert {run.id for run in found} <= {run.id for run in ready}
        for each in found:
            run = self.world.runs[each.id]
            self.world.claim(run, now)
            run.token = self.new_token(run)
            assert each.fence == run.fence
            self.held[each.id, each.fence] = each
        self.tick()

    @rule(index=st.integers(0, 60), wait=st.sampled_from([20.5, 200.5]))
    def park(self, index: int, wait: float) -> None:
        """By any attempt there ever was: only that of the present lease may, and only while a worker has it."""
        if not self.held:
            return
        now = self.now()
        key = list(self.held)[index % len(self.held)]
        run = self.world.runs[key[0]]
        current = run.status is Status.RUNNING and run.fence == key[1] and run.token is None
        digest = self.new_token(run)
        answer = self.do(park(self.database, *key, digest, wait=wait, retry=RETRY_US / 1_000_000))
        if not current:
            assert isinstance(answer, StaleLease)
            return
        assert not isinstance(answer, JobdeckError)
        if run.cancel_asked:
            self.world.end(run, Status.CANCELLED)
        else:
            run.token, run.parked, run.lease_until = digest, True, now + int(wait * 1_000_000)
        self.tick()

    @rule(index=st.integers(0, 60), how=st.sampled_from(sorted(_SAID)))
    def ack(self, index: int, how: str) -> None:
        """By any token there ever was; the same words once more are given the same reply."""
        if not self.tokens:
            return
        now = self.now()
        run_id, digest = self.tokens[index % len(self.tokens)]
        run = self.world.runs[run_id]
        item = Ack(self.deck.scope.team_id, run_id, digest, "ann", _SAID[how])
        (reply,) = self.do(self.database.write_many(ack, [item]))
        if digest in self.said:
            before, given = self.said[digest]
            assert reply == given if before == how else isinstance(reply, StaleLease)
        elif not self.may(run, digest, now):
            assert isinstance(reply, NotParked if run.with_worker else StaleLease)
        else:
            if how == "complete":
                self.world.complete(run)
            else:
                self.world.fail(run, now + RETRY_US)
            assert isinstance(reply, AckReply)
            assert reply.status is run.status
            self.said[digest] = how, reply
        self.tick()

    @rule(index=st.integers(0, 60))
    def extend(self, index: int) -> None:
        """By any token there ever was."""
        if not self.tokens:
            return
        now = self.now()
        run_id, digest = self.tokens[index % len(self.tokens)]
        run = self.world.runs[run_id]
        item = Extend(self.deck.scope.team_id, run_id, digest, LEASE_US)
        (reply,) = self.do(self.database.write_many(extend, [item]))
        if not self.may(run, digest, now):
            assert isinstance(reply, JobdeckError)
            return
        assert not isinstance(reply, JobdeckError)
        assert reply.cancel_requested == run.cancel_asked
        run.lease_until = now + LEASE_US
        self.tick()

    @staticmethod
    def may(run: Expected, digest: str, now: int) -> bool:
        """Whether this is the current token of the run."""
        return run.status is Status.RUNNING and run.token == digest and run.lease_until > now
