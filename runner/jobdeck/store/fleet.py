"""Workers, the job types they know and the runs they take."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, delete, func, insert, select, update

from jobdeck.clock import from_us
from jobdeck.errors import JobdeckError
from jobdeck.limits import HOUSE_TYPES, SYSTEM_QUEUE
from jobdeck.model import JobType, Worker
from jobdeck.store.lanes import pull_queues
from jobdeck.store.schema import job_types, leases, workers
from jobdeck.store.transaction import Hint, Rank, Tx, verb

_KEEP_SILENT_US = 24 * 3_600 * 1_000_000
_STATES_ENDED = ("stopped",)


@dataclass(frozen=True, slots=True)
class Register:
    """A worker that starts, with the job types it brings."""

    worker_id: UUID
    host: str
    pid: int
    version: str
    queues: tuple[str, ...]
    slots: int
    lease_us: int
    types: tuple[JobType, ...]
    """Everything installed beside it: made known, whether this worker takes it or not."""
    takes: tuple[str, ...]
    """Names of the types whose runs it takes."""
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Leave:
    """A worker that ends in order."""

    worker_id: UUID


@verb(Rank.CHANGE)
def register(tx: Tx, items: Sequence[Register]) -> Sequence[JobdeckError | None]:
    """Make the worker known and bring its job types up to date."""
    for item in items:
        save_types(tx, item.types)
        tx.conn.execute(
            insert(workers),
            {
                "id": item.worker_id,
                "host": item.host,
                "pid": item.pid,
                "version": item.version,
                "queues": json.dumps(item.queues),
                "job_types": json.dumps(item.takes),
                "labels": json.dumps(item.labels),
                "slots": item.slots,
                "state": "live",
                "started_at": tx.now,
                "seen_at": tx.now,
                "alive_until": tx.now + item.lease_us,
            },
        )
        _forget_silent(tx)
    tx.hint(Hint.CHANGE)
    return [None] * len(items)


def _forget_silent(tx: Tx) -> None:
    """Drop workers gone for a day that hold nothing: a run never loses the worker its lease names."""
    holding = select(leases.c.worker_id).where(leases.c.worker_id.is_not(None))
    old = select(workers.c.id).where(
        workers.c.alive_until < tx.now - _KEEP_SILENT_US, workers.c.id.not_in(holding)
    )
    # Another worker that starts may be dropping the same ones.
    tx.conn.execute(delete(workers).where(workers.c.id.in_(tx.differences.unlocked_only(old, workers))))


def save_types(tx: Tx, types: Sequence[JobType]) -> None:
    """Insert or update rows of job types; unchanged ones are left alone."""
    stored = {row["name"]: row for row in tx.conn.execute(select(job_types)).mappings()}
    # In one order, for two workers that start together write the same rows.
    for kind in sorted(types, key=lambda kind: kind.name):
        row = _type_row(kind)
        before = stored.get(kind.name)
        if before is None:
            tx.conn.execute(insert(job_types), row | {"updated_at": tx.now})
        elif any(before[name] != value for name, value in row.items()):
            tx.conn.execute(
                update(job_types).where(job_types.c.name == kind.name).values(row | {"updated_at": tx.now})
            )


def _type_row(kind: JobType) -> dict[str, Any]:
    return {
        "name": kind.name,
        "title": kind.title,
        "category": kind.category,
        "scope": kind.scope,
        "schema": json.dumps(kind.schema, sort_keys=True),
        "defaults": json.dumps(kind.defaults, sort_keys=True),
        "package": kind.package,
        "version": kind.version,
        "description": kind.description,
        "labels": json.dumps(kind.labels),
    }


@verb(Rank.CHANGE)
def leave(tx: Tx, items: Sequence[Leave]) -> Sequence[JobdeckError | None]:
    """Mark workers as stopped; what they still hold is left to recovery."""
    ids = [item.worker_id for item in items]
    tx.conn.execute(
        update(workers)
        .where(workers.c.id.in_(ids))
        .values(state="stopped", running=0, seen_at=tx.now, alive_until=tx.now)
    )
    tx.hint(Hint.CHANGE)
    return [None] * len(items)


def list_workers(conn: Connection, now: int) -> list[Worker]:
    """Workers, live ones first, then by start, newest first."""
    counted = select(leases.c.worker_id, func.count()).group_by(leases.c.worker_id)
    held: dict[UUID, int] = dict(conn.execute(counted).all())
    query = select(workers).order_by(workers.c.started_at.desc())
    found = [_worker(row, now, held.get(row["id"], 0)) for row in conn.execute(query).mappings()]
    return sorted(found, key=lambda worker: worker.state in ("stopped", "lost"))


def _worker(row: Any, now: int, running: int) -> Worker:
    return Worker(
        id=row["id"],
        host=row["host"],
        pid=row["pid"],
        version=row["version"],
        state=_state(row, now, running),
        # What every worker does for the house besides says nothing about this one.
        queues=tuple(name for name in json.loads(row["queues"]) if name != SYSTEM_QUEUE),
        job_types=tuple(name for name in json.loads(row["job_types"]) if name not in HOUSE_TYPES),
        slots=row["slots"],
        running=running,
        started_at=from_us(row["started_at"]),
        seen_at=from_us(row["seen_at"]),
        finished_runs=row["finished_runs"],
        labels=tuple(json.loads(row["labels"])),
    )


def _state(row: Any, now: int, running: int) -> str:
    if row["state"] in _STATES_ENDED:
        return str(row["state"])
    if row["alive_until"] <= now:
        return "lost"
    if row["state"] == "draining":
        return "draining"
    if row["stalled"]:
        return "stalled"
    return "busy" if running else "idle"


@dataclass(frozen=True, slots=True)
class LiveWork:
    """What the live workers can take: their job types, each with the queues served (None: every queue)."""

    served: frozenset[tuple[str, str | None]]
    offered: tuple[frozenset[str], ...]
    """The labels of each live worker."""
    needed: Mapping[str, tuple[str, ...]]
    """The labels of the job types that ask for any."""
    pulled: frozenset[str] = frozenset()
    """The team's pull queues, whose runs wait for no worker."""

    def refusal(self, job_type: str, queue: str) -> str | None:
        """Why nobody takes a due run of this type and queue, with what helps; None where somebody can."""
        if queue in self.pulled or (job_type, None) in self.served or (job_type, queue) in self.served:
            return None
        labels = self.needed.get(job_type, ())
        runner = " ".join(["jobdeck runner", *(f"--label {label}" for label in labels)])
        if not self.offered:
            return f"no worker is running; start one with: {runner}"
        if not any(offered.issuperset(labels) for offered in self.offered):
            named = f"label{'s' if len(labels) > 1 else ''} {' and '.join(labels)}"
            return f"no live worker with {named} takes the job type {job_type}; start one with: {runner}"
        if not any(taken == job_type for taken, _ in self.served):
            return (
                f"no live worker takes the job type {job_type}; where it is installed, start one with: "
                f"{runner} --type {job_type}"
            )
        return f"no live worker takes the queue {queue}; start one with: {runner} --queue {queue}"


def live_work(conn: Connection, now: int, team_id: UUID) -> LiveWork:
    """What the workers that are alive now can take of this team's runs."""
    query = select(workers.c.queues, workers.c.job_types, workers.c.labels).where(
        workers.c.alive_until > now, workers.c.state.not_in(("stopped", "draining"))
    )
    rows = conn.execute(query).all()
    served = {
        (kind, queue)
        for row in rows
        for kind in json.loads(row.job_types)
        for queue in (json.loads(row.queues) or [None])
    }
    asking = select(job_types.c.name, job_types.c.labels).where(job_types.c.labels != "[]")
    return LiveWork(
        served=frozenset(served),
        offered=tuple(frozenset(json.loads(row.labels)) for row in rows),
        needed={row.name: tuple(json.loads(row.labels)) for row in conn.execute(asking)},
        pulled=pull_queues(conn, team_id),
    )


def others_alive(conn: Connection, worker_id: UUID | None, now: int) -> bool:
    """Whether any worker but this one is alive."""
    query = select(workers.c.id).where(workers.c.alive_until > now, workers.c.id.is_distinct_from(worker_id))
    return conn.execute(query.limit(1)).first() is not None


def list_types(conn: Connection, now: int) -> list[JobType]:
    """All known job types by name, with how many live workers know each."""
    query = select(workers.c.job_types).where(workers.c.alive_until > now)
    live = [set(json.loads(row.job_types)) for row in conn.execute(query)]
    rows = conn.execute(select(job_types).order_by(job_types.c.name)).mappings()
    return [_job_type(row, sum(row["name"] in known for known in live)) for row in rows]


def find_type(conn: Connection, name: str) -> JobType | None:
    """The job type as a worker registered it last."""
    row = conn.execute(select(job_types).where(job_types.c.name == name)).mappings().one_or_none()
    return None if row is None else _job_type(row, 0)


def _job_type(row: Any, live: int) -> JobType:
    return JobType(
        name=row["name"],
        title=row["title"],
        category=row["category"],
        scope=row["scope"],
        schema=json.loads(row["schema"]),
        defaults=json.loads(row["defaults"]),
        package=row["package"],
        version=row["version"],
        description=row["description"],
        labels=tuple(json.loads(row["labels"])),
        live_workers=live,
    )
