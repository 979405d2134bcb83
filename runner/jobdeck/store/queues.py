"""Queues: those that somebody has declared, and those that are there because runs name them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, and_, case, delete, func, insert, select, update

from jobdeck.clock import from_us
from jobdeck.errors import Conflict, JobdeckError, NotFound
from jobdeck.model import TeamScope
from jobdeck.pull import Queue
from jobdeck.states import ACTIVE, WAITING, Status
from jobdeck.store.control.known import forget
from jobdeck.store.schema import ORDINARY, queues, runs
from jobdeck.store.transaction import Hint, Rank, Tx, verb


@dataclass(frozen=True, slots=True)
class NewQueue:
    """A queue to be declared."""

    team_id: UUID
    name: str
    pull: bool
    description: str
    actor: str


@dataclass(frozen=True, slots=True)
class DropQueue:
    """A queue that is to be declared no longer."""

    team_id: UUID
    name: str


@verb(Rank.CHANGE)
def create_queue(tx: Tx, items: Sequence[NewQueue]) -> Sequence[JobdeckError | None]:
    """Declare queues; Conflict where one of that name is there already, and where workers hold runs of a pull queue.

    One of which nothing is said yet but a limit takes what is said, and keeps the limit.
    """
    return [_create(tx, item) for item in items]


def _create(tx: Tx, item: NewQueue) -> JobdeckError | None:
    if item.pull and kind_of(tx.conn, item.team_id, item.name) is not True:
        held = _count(tx.conn, item, [Status.RUNNING])
        if held:
            # A try that fails would put its run where workers take it no more.
            return Conflict(
                f"workers hold {_runs(held)} of {item.name!r}; make a pull queue of it when they have ended"
            )
    said = {
        "pull": item.pull,
        "description": item.description,
        "created_at": tx.now,
        "created_by": item.actor,
    }
    if kind_of(tx.conn, item.team_id, item.name) is None:
        tx.conn.execute(insert(queues), {"team_id": item.team_id, "name": item.name} | said)
    elif not (item.pull or item.description) or not _say(tx, item, said):
        return Conflict(f"there is a queue {item.name!r} in this team already")
    tx.tell(item, item.name, None, {"pull": item.pull, "description": item.description})
    tx.hint(Hint.CHANGE | Hint.WORK)
    return None


def _say(tx: Tx, item: NewQueue, said: dict[str, Any]) -> bool:
    """Whether nothing has been said of the queue before."""
    silent = and_(~queues.c.pull, queues.c.description == "")
    changed = update(queues).where(*_named(item), silent).values(said)
    return tx.conn.execute(changed).rowcount == 1


@verb(Rank.CHANGE)
def delete_queue(tx: Tx, items: Sequence[DropQueue]) -> Sequence[JobdeckError | None]:
    """Forget queues; NotFound, and Conflict where workers would take runs that wait in one, or come back to it."""
    return [_delete(tx, item) for item in items]


def _delete(tx: Tx, item: DropQueue) -> JobdeckError | None:
    pull = kind_of(tx.conn, item.team_id, item.name)
    if pull is None:
        return NotFound(f"no declared queue {item.name!r} in this team")
    waiting = _count(tx.conn, item, WAITING)
    if waiting:
        return Conflict(
            f"{_runs(waiting, 'wait', 'waits')} in {item.name!r}; end them, or move them with: "
            "jobdeck runs update ID --queue NAME"
        )
    tx.tell(item, item.name, {"pull": pull}, None)
    # An ack that fails, or a visibility that ends, gives such a run back to the queue.
    held = _count(tx.conn, item, [Status.RUNNING]) if pull else 0
    if held:
        return Conflict(
            f"programs hold {_runs(held)} of {item.name!r}; they have to be acked first, see: "
            f"jobdeck runs list --queue {item.name}"
        )
    tx.conn.execute(delete(queues).where(*_named(item)))
    tx.hint(Hint.CHANGE | Hint.WORK)
    return None


def _count(conn: Connection, item: NewQueue | DropQueue, statuses: Collection[Status]) -> int:
    of_queue = runs.c.team_id == item.team_id, runs.c.queue == item.name, runs.c.status.in_(sorted(statuses))
    return int(conn.execute(select(func.count()).select_from(runs).where(*of_queue)).scalar_one())


def _named(item: NewQueue | DropQueue | LimitQueue) -> tuple[ColumnElement[bool], ...]:
    return queues.c.team_id == item.team_id, queues.c.name == item.name


def _runs(count: int, many: str = "", one: str = "") -> str:
    return f"{count:,} run{'s' if count > 1 else ''} {many if count > 1 else one}".strip()


@dataclass(frozen=True, slots=True)
class LimitQueue:
    """At most `max_concurrency` runs of the team's queue run at a time; None: as many as there are slots."""

    team_id: UUID
    name: str
    max_concurrency: int | None
    actor: str


@verb(Rank.CHANGE)
def limit_queue(tx: Tx, items: Sequence[LimitQueue]) -> Sequence[str | JobdeckError]:
    """The names of the queues; one that was never declared is declared by a limit, and by none is not."""
    for item in items:
        limited = {"max_concurrency": item.max_concurrency}
        before = tx.conn.execute(select(queues.c.max_concurrency).where(*_named(item))).scalar()
        if item.max_concurrency is None:
            tx.conn.execute(update(queues).where(*_named(item)).values(limited))
        else:
            row = {"team_id": item.team_id, "name": item.name, "created_at": tx.now, "created_by": item.actor}
            told = tx.differences.insert(queues).values(row | limited)
            tx.conn.execute(told.on_conflict_do_update(index_elements=["team_id", "name"], set_=limited))
        tx.tell(item, item.name, {"max_concurrency": before}, limited)
    forget(tx)
    tx.hint(Hint.CHANGE | Hint.WORK)
    return [item.name for item in items]


def kind_of(conn: Connection, team_id: UUID, name: str) -> bool | None:
    """Whether the declared queue is a pull queue; None where none of that name is declared."""
    found = conn.execute(
        select(queues.c.pull).where(queues.c.team_id == team_id, queues.c.name == name)
    ).scalar()
    return None if found is None else bool(found)


def list_queues(conn: Connection, now: int, scope: TeamScope, name: str | None = None) -> list[Queue]:
    """The team's queues by name, or the one of this name; what has runs that have not ended, or is declared."""
    declared = select(queues).where(queues.c.team_id == scope.team_id)
    used = _used(now).where(runs.c.team_id == scope.team_id)
    if name is not None:
        declared, used = declared.where(queues.c.name == name), used.where(runs.c.queue == name)
    rows = {row.name: row for row in conn.execute(declared)}
    loads = {row.queue: row for row in conn.execute(used)}
    return [_queue(each, rows.get(each), loads.get(each)) for each in sorted(rows.keys() | loads.keys())]


def _used(now: int) -> Any:
    waits = runs.c.status.in_(sorted(WAITING))
    due = and_(runs.c.status == Status.PENDING, runs.c.due_at <= now)
    return (
        select(
            runs.c.queue,
            func.sum(case((waits, 1), else_=0)).label("waiting"),
            func.sum(case((runs.c.status == Status.RUNNING, 1), else_=0)).label("running"),
            func.min(case((due, runs.c.due_at))).label("oldest"),
        )
        .where(runs.c.status.in_(sorted(ACTIVE)), ORDINARY)
        .group_by(runs.c.queue)
    )


def _queue(name: str, row: Any, load: Any) -> Queue:
    return Queue(
        name=name,
        pull=row is not None and bool(row.pull),
        declared=row is not None,
        max_concurrency=None if row is None else row.max_concurrency,
        description="" if row is None else row.description,
        waiting=0 if load is None else int(load.waiting),
        running=0 if load is None else int(load.running),
        oldest_due_at=None if load is None or load.oldest is None else from_us(load.oldest),
        created_at=None if row is None else from_us(row.created_at),
        created_by=None if row is None else row.created_by,
    )
