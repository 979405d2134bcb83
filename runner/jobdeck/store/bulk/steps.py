"""Acts on many runs: the list is made once and cut into steps; workers do a step in one transaction, and delete it.

So what was counted is what is visited, a crash repeats nothing and loses nothing, and steps may be done by several
workers at once. Each run is acted on by the verb that does so for one alone: its rules are the same.
"""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from struct import Struct
from struct import error as StructError
from typing import Any, Final, NamedTuple, TypeAlias
from uuid import UUID

from sqlalchemy import Connection, delete, insert, select, update

from jobdeck.audit import AuditOutcome
from jobdeck.bulk import SAMPLES, BulkKind, BulkState, Target, count_codes, filter_facts
from jobdeck.errors import Conflict, JobdeckError, NotFound
from jobdeck.ids import show_id
from jobdeck.model import RunFilter, TeamScope
from jobdeck.people import Permission
from jobdeck.store.approvals import Decide, approve, reject
from jobdeck.store.audit.acts import Act, Refused, store_refused, write_acts
from jobdeck.store.changes import Cancel, RetryRun, cancel, retry
from jobdeck.store.differences import Differences
from jobdeck.store.failures import concerns_all
from jobdeck.store.lists.routes import routes_of
from jobdeck.store.lists.walks import matching, span_of
from jobdeck.store.locks import Locks, lock_runs
from jobdeck.store.members import lacks
from jobdeck.store.schema import OPEN_BULK, bulk_operations, bulk_steps, runs
from jobdeck.store.transaction import Hint, Rank, Tx, Verb, verb

_log = logging.getLogger("jobdeck.store.bulk.steps")
# Runs in one transaction: on SQLite 40 ms in which nobody else writes, measured with cancels.
_STEP: Final = 50
# Of so many steps a worker takes any one: two workers seldom take the same.
_CHOICE: Final = 16
_PACKED: Final = Struct(">16sQ")

Result: TypeAlias = Any | JobdeckError


def targets(
    conn: Connection,
    now: int,
    scope: TeamScope,
    chosen: RunFilter,
    *,
    differences: Differences,
    limit: int,
) -> list[Target]:
    """All runs that the filter shows, oldest first, at most `limit`. Raises ValidationError for a bad status."""
    span = span_of(scope, chosen, after=None, before=None, upward=True)
    routes = routes_of(conn, differences, now, scope, chosen)
    if not routes:
        return []
    keys = matching(span, routes[0], None, limit).subquery("keys")
    query = (
        select(runs.c.id, runs.c.revision)
        .join(keys, keys.c.id == runs.c.id)
        .order_by(keys.c.created_at, keys.c.id)
    )
    return [Target(*row) for row in conn.execute(query)]


@dataclass(frozen=True, slots=True)
class NewBulk:
    """An operation of a team on the runs of a list."""

    id: UUID
    team_id: UUID
    kind: BulkKind
    chosen: RunFilter
    actor: str
    reason: str | None
    targets: Sequence[Target]
    own: bool = False
    """Whether the one who asked for a run may decide on it."""


@verb(Rank.CHANGE)
def create_bulk(tx: Tx, items: Sequence[NewBulk]) -> Sequence[UUID]:
    """Store operations and their steps; from then on any worker may do them."""
    for item in items:
        row = {
            "id": item.id,
            "team_id": item.team_id,
            "kind": item.kind,
            "state": BulkState.PENDING if item.targets else BulkState.COMPLETED,
            "filter": json.dumps(filter_facts(item.chosen), ensure_ascii=False),
            "requested_by": item.actor,
            "own": item.own,
            "reason": item.reason,
            "created_at": tx.now,
            "finished_at": None if item.targets else tx.now,
            "total": len(item.targets),
        }
        tx.conn.execute(insert(bulk_operations), row)
        if item.targets:
            tx.conn.execute(insert(bulk_steps), list(_steps(item)))
        about = {"kind": item.kind, "total": len(item.targets), "filter": filter_facts(item.chosen)}
        tx.tell(item, show_id("bulk", item.id), None, about)
    tx.hint(Hint.CHANGE)
    return [item.id for item in items]


def _steps(item: NewBulk) -> Iterator[dict[str, Any]]:
    for number, start in enumerate(range(0, len(item.targets), _STEP)):
        some = item.targets[start : start + _STEP]
        packed = b"".join(_PACKED.pack(run_id.bytes, revision) for run_id, revision in some)
        yield {"bulk_id": item.id, "number": number, "targets": packed}


class Step(NamedTuple):
    """Some runs of an operation that have not been visited yet."""

    bulk_id: UUID
    number: int
    team_id: UUID
    kind: BulkKind | None
    """None: the operation cannot be read, or has no steps, and is to be closed."""
    actor: str
    reason: str | None
    own: bool
    targets: tuple[Target, ...]

    @property
    def run_ids(self) -> list[UUID]:
        return [target.run_id for target in self.targets]


def next_step(conn: Connection) -> Step | None:
    """A step of some operation that is open; None where nothing is left to do. Teams share the workers."""
    columns = (bulk_operations.c[name] for name in ("id", "team_id", "kind", "requested_by", "reason", "own"))
    # What has no id cannot be closed either.
    operations = [row for row in conn.execute(select(*columns).where(OPEN_BULK)) if row.id.int]
    if not operations:
        return None
    row = random.choice(operations)
    query = select(bulk_steps.c.number, bulk_steps.c.targets).where(bulk_steps.c.bulk_id == row.id)
    steps = conn.execute(query.order_by(bulk_steps.c.number).limit(_CHOICE)).all()
    number, packed = random.choice(steps) if steps else (0, b"")
    kind, found = _read(row.kind, packed)
    return Step(row.id, number, row.team_id, kind, row.requested_by, row.reason, bool(row.own), found)


def _read(kind: Any, packed: Any) -> tuple[BulkKind | None, tuple[Target, ...]]:
    try:
        found = tuple(Target(UUID(bytes=key), revision) for key, revision in _PACKED.iter_unpack(packed))
        return (BulkKind(kind), found) if found else (None, ())
    except (TypeError, ValueError, StructError):
        # Somebody has changed it in the database.
        return None, ()


@verb(Rank.CHANGE, Locks(lambda step: step.run_ids, runs=True))
def work_step(tx: Tx, items: Sequence[Step]) -> Sequence[bool]:
    """Do steps; False where another worker has done it, or the operation was stopped."""
    # Before the steps themselves: the order of all transactions.
    lock_runs(tx.conn, tx.differences, (run_id for item in items for run_id in item.run_ids))
    return [_work_or_close(tx, item) for item in items]


class _Unreadable(Exception):
    """An operation that somebody has changed in the database."""


def _work_or_close(tx: Tx, step: Step) -> bool:
    """An operation that somebody has spoilt would be tried for ever, and a draining worker would wait for it."""
    if step.kind is not None:
        with suppress(_Unreadable), tx.attempt():
            return _work(tx, step)
    return _close(tx, step)


def _close(tx: Tx, step: Step) -> bool:
    mine = bulk_operations.c.id == step.bulk_id
    # The steps before the operation, as everywhere.
    tx.conn.execute(delete(bulk_steps).where(bulk_steps.c.bulk_id == step.bulk_id))
    ended = {"state": BulkState.STOPPED, "finished_at": tx.now}
    if tx.conn.execute(update(bulk_operations).where(mine, OPEN_BULK).values(ended)).rowcount != 1:
        return False
    shown = show_id("bulk", step.bulk_id)
    _log.error("%s is stopped: somebody has changed it in the database", shown)
    tx.hint(Hint.CHANGE)
    return True


def _work(tx: Tx, step: Step) -> bool:
    mine = delete(bulk_steps).where(bulk_steps.c.bulk_id == step.bulk_id, bulk_steps.c.number == step.number)
    if tx.conn.execute(mine).rowcount != 1:
        return False
    assert step.kind is not None  # noqa: S101  those are closed
    if refused := lacks(tx, step.team_id, step.actor, Permission.JOBS_WRITE):
        _refuse(tx, step, refused)
        return True
    run, item_of = _ACTS[step.kind]
    found = _changed(tx, step)
    items = {target.run_id: item_of(step, target.run_id) for target in step.targets}
    left = {run_id: item for run_id, item in items.items() if run_id not in found}
    found |= dict(zip(left, _act(tx, run, list(left.values())), strict=True))
    _account(tx, step, found)
    _audit(tx, step, items, found)
    return True


def _refuse(tx: Tx, step: Step, refused: JobdeckError) -> None:
    """Whoever asked for it may not any more: it ends here, and says so by the runs of this step."""
    # The steps before the operation, as whoever stops one.
    tx.conn.execute(delete(bulk_steps).where(bulk_steps.c.bulk_id == step.bulk_id))
    _account(tx, step, dict.fromkeys(step.run_ids, refused))
    left = (bulk_operations.c.id == step.bulk_id, OPEN_BULK)
    ended = {"state": BulkState.STOPPED, "finished_at": tx.now}
    tx.conn.execute(update(bulk_operations).where(*left).values(ended))
    act = _act_of(step, step.run_ids)
    store_refused(tx, [Refused(act, AuditOutcome.DENIED, refused.code)])


def _audit(tx: Tx, step: Step, items: Mapping[UUID, Any], found: Mapping[UUID, Result]) -> None:
    """What a step has done is an act of whoever asked for it."""
    write_acts(tx, [(_act_of(step), list(items.values()), [found[run_id] for run_id in items])])
    for item in items.values():
        # By their identities, which the items of the next step may have.
        tx.told.pop(id(item), None)


def _act_of(step: Step, asked: Sequence[UUID] = ()) -> Act:
    return Act(step.team_id, step.actor, f"run.{step.kind}", asked, "run", step.reason)


def _changed(tx: Tx, step: Step) -> dict[UUID, Result]:
    """What is decided on is what was listed: runs that are another request by now are refused."""
    if step.kind not in (BulkKind.APPROVE, BulkKind.REJECT):
        return {}
    query = select(runs.c.id, runs.c.revision).where(runs.c.id.in_(step.run_ids))
    now = {row.id: row.revision for row in tx.conn.execute(query)}
    return {
        run_id: Conflict(f"{show_id('run', run_id)} has been changed since it was listed; look at it again")
        for run_id, revision in step.targets
        if now.get(run_id, revision) != revision
    }


def _act(tx: Tx, run: Verb[Any, Any], items: Sequence[Any]) -> Sequence[Result]:
    """All at once, or, where one of them makes that fail, one by one."""
    if not items:
        return []
    try:
        with tx.attempt():
            return run(tx, items)
    except Exception as error:
        if concerns_all(error):
            raise
    return [_act_alone(tx, run, item) for item in items]


def _act_alone(tx: Tx, run: Verb[Any, Any], item: Any) -> Result:
    try:
        with tx.attempt():
            return run(tx, [item])[0]
    except Exception as error:
        if concerns_all(error):
            raise
        return JobdeckError(f"the database refused it: {type(error).__name__}")


_ACTS: Final[dict[BulkKind, tuple[Verb[Any, Any], Callable[[Step, UUID], Any]]]] = {
    BulkKind.CANCEL: (cancel, lambda step, run: Cancel(step.team_id, run, step.actor, step.reason)),
    BulkKind.RETRY: (retry, lambda step, run: RetryRun(step.team_id, run, step.actor, step.reason)),
    BulkKind.APPROVE: (approve, lambda step, run: _decision(step, run)),
    BulkKind.REJECT: (reject, lambda step, run: _decision(step, run)),
}


def _decision(step: Step, run_id: UUID) -> Decide:
    return Decide(step.team_id, run_id, step.actor, step.reason, own=step.own)


def _account(tx: Tx, step: Step, found: dict[UUID, Result]) -> None:
    """Add to the operation what became of a step; whoever adds the last one completes it."""
    query = select(bulk_operations).where(bulk_operations.c.id == step.bulk_id)
    row = tx.conn.execute(tx.differences.locked(query, by=bulk_operations.c.id)).one()
    try:
        _add(tx, row, found)
    except Exception as error:
        if concerns_all(error):
            raise
        raise _Unreadable from error
    tx.hint(Hint.CHANGE)


def _add(tx: Tx, row: Any, found: dict[UUID, Result]) -> None:
    errors = {run_id: result for run_id, result in found.items() if isinstance(result, JobdeckError)}
    counts = _counts(row, len(found), errors)
    complete = sum(counts.values()) >= row.total
    tx.conn.execute(
        update(bulk_operations)
        .where(bulk_operations.c.id == row.id)
        .values(
            **counts,
            **_told(row, errors),
            state=BulkState.COMPLETED if complete else BulkState.RUNNING,
            started_at=tx.now if row.started_at is None else row.started_at,
            finished_at=tx.now if complete else None,
        )
    )


def _counts(row: Any, visited: int, errors: dict[UUID, JobdeckError]) -> dict[str, int]:
    failed = sum(1 for error in errors.values() if type(error) is JobdeckError)
    return {
        "done": row.done + visited - len(errors),
        "skipped": row.skipped + len(errors) - failed,
        "failed": row.failed + failed,
    }


def _told(row: Any, errors: dict[UUID, JobdeckError]) -> dict[str, str]:
    samples = json.loads(row.samples)
    for run_id, error in list(errors.items())[: SAMPLES - len(samples)]:
        samples.append([run_id.hex, error.code, error.message])
    refused = count_codes((error.code for error in errors.values()), json.loads(row.refused))
    return {"refused": json.dumps(refused), "samples": json.dumps(samples, ensure_ascii=False)}


@dataclass(frozen=True, slots=True)
class StopBulk:
    """End an operation of this team; what it has done stays done."""

    team_id: UUID
    bulk_id: UUID


@verb(Rank.CHANGE)
def stop_bulk(tx: Tx, items: Sequence[StopBulk]) -> Sequence[UUID | JobdeckError]:
    """The runs that were not visited yet are not visited any more. NotFound, Conflict where it has ended."""
    return [_stop(tx, item) for item in items]


def _stop(tx: Tx, item: StopBulk) -> UUID | JobdeckError:
    mine = select(bulk_operations.c.state).where(
        bulk_operations.c.id == item.bulk_id, bulk_operations.c.team_id == item.team_id
    )
    shown = show_id("bulk", item.bulk_id)
    row = tx.conn.execute(mine.add_columns(bulk_operations.c.kind)).first()
    if row is None:
        return NotFound(f"no bulk operation {shown} in this team")
    # The steps before the operation, as workers do.
    tx.conn.execute(delete(bulk_steps).where(bulk_steps.c.bulk_id == item.bulk_id))
    state = tx.conn.execute(tx.differences.locked(mine, by=bulk_operations.c.id)).scalar_one()
    if state not in (BulkState.PENDING, BulkState.RUNNING):
        return Conflict(f"{shown} has already ended as {state}")
    ended = {"state": BulkState.STOPPED, "finished_at": tx.now}
    tx.conn.execute(update(bulk_operations).where(bulk_operations.c.id == item.bulk_id).values(ended))
    tx.tell(item, shown, {"state": state, "kind": row.kind}, {"state": BulkState.STOPPED})
    tx.hint(Hint.CHANGE)
    return item.bulk_id
