"""Runs of pull queues in the hands of outside programs: they claim them, say that they go on, and end them.

The runs are taken by the same claim as those of workers; what makes them theirs is the token of the lease.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import BigInteger, bindparam, insert, select, update

from jobdeck import jsonio, limits
from jobdeck.approval import request_hash
from jobdeck.clock import from_us
from jobdeck.errors import Conflict, JobdeckError, NotFound, NotParked, StaleLease
from jobdeck.ids import show_id
from jobdeck.pull import AckReply, ExtendReply
from jobdeck.retry import Backoff, from_facts
from jobdeck.states import AttemptOutcome, FailureKind, Status
from jobdeck.store.changes import unknown_run
from jobdeck.store.claim import Claim, ClaimedRun, claim
from jobdeck.store.finish import Ended, end_each, leased, write_ends
from jobdeck.store.locks import Locks, lock_runs
from jobdeck.store.queues import kind_of
from jobdeck.store.schema import acks, leases, runs
from jobdeck.store.tokens.held import LEASE_FACTS
from jobdeck.store.transaction import Hint, Rank, Tx, verb
from jobdeck.verdict import Ending


@dataclass(frozen=True, slots=True)
class PullClaim:
    """A program asks for runs of a pull queue: at most as many as it has brought digests of new tokens."""

    team_id: UUID
    queue: str
    claimer: str
    visibility_us: int
    hashes: tuple[str, ...]
    backoff_of: Callable[[str], Backoff]
    """The backoff of a job type, for runs that have none of their own."""


@verb(Rank.CLAIM)
def claim_pulled(tx: Tx, items: Sequence[PullClaim]) -> Sequence[list[ClaimedRun] | JobdeckError]:
    """For each program due runs in the order of priority, due time and id. NotFound, Conflict for other queues."""
    return [_claim_for(tx, item) for item in items]


def _claim_for(tx: Tx, item: PullClaim) -> list[ClaimedRun] | JobdeckError:
    pull = kind_of(tx.conn, item.team_id, item.queue)
    if pull is None:
        return NotFound(f"no queue {item.queue!r} in this team; {_make(item.queue)}")
    if not pull:
        return Conflict(f"workers take the runs of {item.queue!r}; programs claim from pull queues only")
    wanted = Claim(
        None, item.claimer, len(item.hashes), item.visibility_us, (), (item.queue,), pull_of=item.team_id
    )
    (found,) = claim(tx, [wanted])
    if isinstance(found, JobdeckError) or not found:
        return found
    problems = {run.id: problem for run in found if (problem := _problem_of(run)) is not None}
    _refuse(tx, problems, item.claimer)
    taken = [run for run in found if run.id not in problems]
    if taken:
        rows = [_armed(run, digest, item) for run, digest in zip(taken, item.hashes, strict=False)]
        tx.conn.execute(_ARM, rows)
    return taken


def _make(queue: str) -> str:
    return f"make it with: jobdeck queues create {queue} --pull"


_ARM = (
    update(leases)
    .where(leases.c.run_id == bindparam("run"), leases.c.fence == bindparam("of_fence"))
    .values(token_hash=bindparam("hash"), retry_us=bindparam("wait", type_=BigInteger))
)


def _armed(run: ClaimedRun, digest: str, item: PullClaim) -> dict[str, Any]:
    backoff = item.backoff_of(run.job_type)
    if run.rare.backoff is not None:
        # A row that has been tampered with must not keep a run from being claimed.
        with suppress(Exception):
            backoff = from_facts(json.loads(run.rare.backoff))
    failures = run.failures if isinstance(run.failures, int) else 0
    wait = int(backoff.delay(max(failures, 0) + 1, random.Random()) * 1_000_000)
    return {"run": run.id, "of_fence": run.fence, "hash": digest, "wait": wait}


def _problem_of(run: ClaimedRun) -> Ending | None:
    """How a run ends that nobody can be given: it is not what was approved, or cannot be read."""
    if run.rare.requires_approval and run.rare.approved_hash != request_hash(
        run.job_type, run.rare.job_version, run.params
    ):
        words = "its params or its job's version are not those that were approved"
        return _refusal(words, FailureKind.REJECTED)
    try:
        jsonio.loads(run.params, what="params", limit=limits.PARAMS_BYTES)
        if run.resume is not None:
            jsonio.loads(run.resume, what="the checkpoint", limit=limits.CHECKPOINT_BYTES)
    except Exception as error:
        return _refusal(f"its params or its checkpoint cannot be read: {error}", FailureKind.INVALID_PARAMS)
    return None


def _refusal(words: str, kind: FailureKind) -> Ending:
    return Ending(AttemptOutcome.ERROR, error=words, final=True, failure_kind=kind)


def _refuse(tx: Tx, problems: Mapping[UUID, Ending], claimer: str) -> None:
    """End these runs, as a worker does."""
    if problems:
        rows = tx.conn.execute(leased().where(runs.c.id.in_(problems))).all()
        end_each(tx, rows, lambda row: problems[row.id], claimer)


@dataclass(frozen=True, slots=True)
class Ack:
    """The end of an attempt, told by whoever has its token; `ending` without a wait takes the run's own backoff."""

    team_id: UUID
    run_id: UUID
    token_hash: str
    actor: str
    ending: Ending


class _Known(NamedTuple):
    """What acks are judged by; read after the runs have been locked."""

    teams: dict[UUID, UUID]
    held: dict[UUID, Any]
    said: dict[tuple[UUID, str], Any]


@verb(Rank.FINISH, Locks(lambda item: (item.run_id,), runs=True))
def ack(tx: Tx, items: Sequence[Ack]) -> Sequence[AckReply | JobdeckError]:
    """End attempts, each only by its current token. NotFound, StaleLease, NotParked.

    The same once more is given the same reply and changes nothing.
    """
    lock_runs(tx.conn, tx.differences, (item.run_id for item in items))
    replies: dict[int, AckReply | JobdeckError] = {}
    left = list(enumerate(items))
    while left:
        # One of each run at a time: the second one has to see what became of the first.
        first = {item.run_id: index for index, item in reversed(left)}
        now = [(index, item) for index, item in left if first[item.run_id] == index]
        replies.update(
            zip([index for index, _ in now], _ack_each(tx, [item for _, item in now]), strict=True)
        )
        left = [(index, item) for index, item in left if index not in replies]
    return [replies[index] for index in range(len(items))]


def _ack_each(tx: Tx, items: Sequence[Ack]) -> list[AckReply | JobdeckError]:
    known = _known(tx, items)
    found = [_problem(item, known, tx.now) for item in items]
    good = [item for item, problem in zip(items, found, strict=True) if problem is None]
    ended = iter(_end(tx, [(known.held[item.run_id], item) for item in good]))
    return [next(ended) if problem is None else problem for problem in found]


def _known(tx: Tx, items: Sequence[Ack | Extend]) -> _Known:
    ids = {item.run_id for item in items}
    teams = tx.conn.execute(select(runs.c.id, runs.c.team_id).where(runs.c.id.in_(ids)))
    held = tx.conn.execute(leased(*LEASE_FACTS, leases.c.token_hash).where(runs.c.id.in_(ids)))
    said = tx.conn.execute(select(acks).where(acks.c.run_id.in_(ids)))
    return _Known(
        {row.id: row.team_id for row in teams},
        {row.id: row for row in held},
        {(row.run_id, row.token_hash): row for row in said},
    )


def _problem(item: Ack | Extend, known: _Known, now: int) -> AckReply | JobdeckError | None:
    """What keeps the holder of this token from acting, or the reply it has been given before."""
    if known.teams.get(item.run_id) != item.team_id:
        return unknown_run(item.run_id)
    shown = show_id("run", item.run_id)
    before = known.said.get((item.run_id, item.token_hash))
    if before is not None:
        if isinstance(item, Ack) and before.said == _digest(item.ending):
            return _reply(before)
        return StaleLease(f"the attempt of {shown} has been ended by this token already, otherwise")
    lease = known.held.get(item.run_id)
    if lease is not None and lease.token_hash is None and lease.worker_id is not None:
        return NotParked(f"{shown} is still with worker {lease.worker}; try again in a moment")
    if lease is None or lease.token_hash != item.token_hash or lease.lease_until <= now:
        return StaleLease(f"the token is not, or no longer, the current one of {shown}; leave the run alone")
    return None


def _end(tx: Tx, acked: Sequence[tuple[Any, Ack]]) -> list[AckReply]:
    endings = [(lease, _with_wait(item.ending, lease)) for lease, item in acked]
    replies = []
    for (lease, item), pair in zip(acked, endings, strict=True):
        (ended,) = write_ends(tx, [pair], actor=item.actor)
        tx.conn.execute(insert(acks), _kept(item, lease, ended, tx.now))
        tx.tell(item, show_id("run", item.run_id), {"status": Status.RUNNING}, {"status": ended.status})
        replies.append(
            AckReply(
                item.run_id,
                ended.status,
                _goes_on(ended.status, ended.due_at),
                lease.cancel_requested_at is not None,
            )
        )
    return replies


def _with_wait(ending: Ending, lease: Any) -> Ending:
    return ending if ending.retry_in_us is not None else ending._replace(retry_in_us=lease.retry_us)


def _kept(item: Ack, lease: Any, ended: Ended, now: int) -> dict[str, Any]:
    return {
        "run_id": item.run_id,
        "token_hash": item.token_hash,
        "fence": ended.fence,
        "said": _digest(item.ending),
        "status": ended.status,
        "due_at": ended.due_at,
        "cancel_requested": lease.cancel_requested_at is not None,
        "at": now,
    }


def _digest(ending: Ending) -> str:
    """By this the same ack is told from another one."""
    said = json.dumps([ending.outcome, ending.result, ending.error, ending.final, ending.retry_in_us])
    return hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest()


def _reply(row: Any) -> AckReply:
    status = Status(row.status)
    return AckReply(row.run_id, status, _goes_on(status, row.due_at), bool(row.cancel_requested))


def _goes_on(status: Status, due_at: int) -> Any:
    return from_us(due_at) if status is Status.PENDING else None


@dataclass(frozen=True, slots=True)
class Extend:
    """Whoever has the token goes on with the run, for so long from now."""

    team_id: UUID
    run_id: UUID
    token_hash: str
    visibility_us: int


@verb(Rank.BEAT, Locks(lambda item: (item.run_id,), runs=True))
def extend(tx: Tx, items: Sequence[Extend]) -> Sequence[ExtendReply | JobdeckError]:
    """Move the end of leases, each only by its current token. NotFound, StaleLease, NotParked."""
    lock_runs(tx.conn, tx.differences, (item.run_id for item in items))
    known = _known(tx, items)
    replies: list[ExtendReply | JobdeckError] = []
    for item in items:
        problem = _problem(item, known, tx.now)
        if isinstance(problem, JobdeckError):
            replies.append(problem)
            continue
        until = tx.now + item.visibility_us
        moved = {"lease_until": until, "beat_at": tx.now, "revision": leases.c.revision + 1}
        tx.conn.execute(update(leases).where(leases.c.run_id == item.run_id).values(moved))
        asked = known.held[item.run_id].cancel_requested_at is not None
        replies.append(ExtendReply(item.run_id, from_us(until), asked))
    if any(isinstance(reply, ExtendReply) for reply in replies):
        tx.hint(Hint.CHANGE)
    return replies
