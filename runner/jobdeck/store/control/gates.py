"""Gates: the limits of a job, as a claim reads them, and which runs stand behind them."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, Insert, Select, delete, exists, select, update

from jobdeck.definition import JobDefinition, RatePart, parse_definition
from jobdeck.model import NewRun
from jobdeck.states import ACTIVE
from jobdeck.store.control.known import forget
from jobdeck.store.jobs.states import held_jobs
from jobdeck.store.schema import OF_JOB, gates, pauses, rates, runs
from jobdeck.store.transaction import Tx

_ACTIVE: Final = sorted(ACTIVE)


Lock = Callable[[Select[Any]], Select[Any]]
"""Makes a query one that locks its rows."""


class Rate(NamedTuple):
    """At most `most` runs begin in any `window_us` microseconds. A name with a space in it is a job's own."""

    name: str
    most: int
    window_us: int

    @property
    def is_shared(self) -> bool:
        """Whether other jobs of the team count under the same name."""
        return " " not in self.name


class Limits(NamedTuple):
    """What holds for the runs behind one gate."""

    max_concurrency: int | None = None
    per_key: int = 1
    rates: tuple[Rate, ...] = ()
    window: tuple[str, str] | None = None
    """Expression and time zone of the execution window."""

    def stored(self) -> str:
        """As JSON."""
        return json.dumps(self._asdict())


NO_LIMITS: Final = Limits()


SHUT: Final = Limits(max_concurrency=0)
"""Of a row that nothing of ours has written: nothing passes."""


def parse_limits(text: str) -> Limits:
    """Limits from what `stored` gave; `SHUT` where that cannot be read."""
    try:
        facts = json.loads(text)
        rates_of = tuple(Rate(str(name), int(most), int(us)) for name, most, us in facts["rates"])
        window = None if facts["window"] is None else (str(facts["window"][0]), str(facts["window"][1]))
        most = None if facts["max_concurrency"] is None else int(facts["max_concurrency"])
        return Limits(most, int(facts["per_key"]), rates_of, window)
    except (ValueError, TypeError, KeyError, IndexError, RecursionError):
        return SHUT


def limits_of(definition: JobDefinition, job_id: UUID) -> Limits:
    """The limits that a definition states."""
    found = [] if definition.rate_limit is None else [_rate(f"job {job_id.hex}", definition.rate_limit)]
    found += [_rate(named.name, named) for named in definition.rate_limit_keys]
    window = definition.execution_window
    return Limits(
        definition.max_concurrency,
        definition.max_concurrency_per_key or 1,
        tuple(found),
        None if window is None else (window.cron, window.timezone),
    )


def _rate(name: str, part: RatePart) -> Rate:
    return Rate(name, part.max, int(part.window.total_seconds() * 1_000_000))


def keep_limits(tx: Tx, team_id: UUID, job_id: UUID, definition_text: str) -> None:
    """The job, whose row is locked or new, has this definition now: its gate follows."""
    limits = limits_of(parse_definition(json.loads(definition_text)), job_id)
    names = {rate.name for rate in limits.rates if rate.is_shared}
    if names:
        tx.conn.execute(_once(tx, rates), [{"team_id": team_id, "name": name} for name in sorted(names)])
    if limits != NO_LIMITS:
        ensure_gate(tx, team_id, job_id=job_id)
    tx.conn.execute(update(gates).where(gates.c.job_id == job_id).values(limits=limits.stored()))
    drop_idle_gate(tx, job_id)


def ensure_gate(
    tx: Tx, team_id: UUID, *, job_id: UUID | None = None, job_type: str | None = None, keyed: bool = False
) -> int:
    """The gate of a job, or of a job type's runs without a job; all active runs of the job stand behind it."""
    same = (
        gates.c.job_id == job_id if job_id else (gates.c.team_id == team_id) & (gates.c.job_type == job_type)
    )
    query = select(gates.c.id, gates.c.keyed).where(same)
    found = tx.conn.execute(query).one_or_none()
    if found is None:
        owner = {"team_id": team_id, "job_id": job_id, "job_type": job_type}
        tx.conn.execute(_once(tx, gates).values(owner | {"limits": NO_LIMITS.stored(), "keyed": keyed}))
        forget(tx)
        found = tx.conn.execute(query).one()
    if keyed and not found.keyed:
        tx.conn.execute(update(gates).where(gates.c.id == found.id).values(keyed=True))
    if job_id is not None:
        # Those, too, that were made at the same moment as the gate.
        _stand(tx, job_id, 0, found.id)
    return int(found.id)


def drop_idle_gate(tx: Tx, job_id: UUID) -> None:
    """Where nothing holds a job back any more its runs go the quick way again; its row is locked."""
    paused = exists().where(pauses.c.gate == gates.c.id)
    idle = (gates.c.limits == NO_LIMITS.stored(), ~gates.c.keyed, ~paused)
    gate = tx.conn.execute(select(gates.c.id).where(gates.c.job_id == job_id, *idle)).scalar()
    if gate is not None:
        _stand(tx, job_id, int(gate), 0)
        tx.conn.execute(delete(gates).where(gates.c.id == gate))


def _stand(tx: Tx, job_id: UUID, before: int, gate: int) -> None:
    """Move the active runs of a job from one gate behind another; in the order in which all lock runs."""
    of_job = (runs.c.job_id == job_id, OF_JOB, runs.c.status.in_(_ACTIVE), runs.c.gate == before)
    found = tx.differences.locked(select(runs.c.id).where(*of_job), by=runs.c.id)
    tx.conn.execute(update(runs).where(tx.differences.in_query(runs.c.id, found)).values(gate=gate))


def gates_of_jobs(tx: Tx, run_ids: Collection[UUID]) -> dict[UUID, int]:
    """The gates of the jobs of these runs, by job. None comes or goes until the transaction has ended."""
    of_runs = select(runs.c.job_id).where(runs.c.id.in_(run_ids), OF_JOB).distinct()
    job_ids = tx.conn.execute(of_runs).scalars().all()
    held_jobs(tx, job_ids)
    query = select(gates.c.job_id, gates.c.id).where(gates.c.job_id.in_(job_ids))
    return {row.job_id: row.id for row in tx.conn.execute(query)} if job_ids else {}


def _once(tx: Tx, table: Any) -> Insert:
    made: Insert = tx.differences.insert(table).on_conflict_do_nothing()
    return made


class GatesOfRuns:
    """Behind which gates some new runs stand."""

    def __init__(self, tx: Tx, items: Sequence[NewRun]) -> None:
        self._tx = tx
        self._of_job: dict[UUID, int] = {}
        self._keyed: set[UUID] = set()
        self._of_type: dict[tuple[UUID, str], int] = {}
        jobs = {
            item.extras.job.id for item in items if item.extras is not None and item.extras.job is not None
        }
        if jobs:
            query = select(gates.c.job_id, gates.c.id).where(gates.c.job_id.in_(jobs))
            self._of_job = {row.job_id: row.id for row in tx.conn.execute(query)}

    def gate_of(self, item: NewRun) -> int:
        """The gate of a run; 0 where nothing limits it. One with a concurrency key always has one."""
        if item.extras is None:
            return 0
        job, keyed = item.extras.job, item.extras.concurrency_key is not None
        if job is not None:
            if keyed and job.id not in self._keyed:
                self._of_job[job.id] = ensure_gate(self._tx, item.team_id, job_id=job.id, keyed=True)
                self._keyed.add(job.id)
            return self._of_job.get(job.id, 0)
        if not keyed:
            return 0
        kind = (item.team_id, item.job_type)
        if kind not in self._of_type:
            self._of_type[kind] = ensure_gate(self._tx, item.team_id, job_type=item.job_type, keyed=True)
        return self._of_type[kind]


def read_gates(
    conn: Connection, ids: Sequence[int], lock: Lock | None = None
) -> dict[int, tuple[UUID, Limits]]:
    """Team and limits of these gates; of those that `lock` leaves."""
    if not ids:
        return {}
    query = (
        select(gates.c.id, gates.c.team_id, gates.c.limits).where(gates.c.id.in_(ids)).order_by(gates.c.id)
    )
    rows = conn.execute(query if lock is None else lock(query))
    return {row.id: (row.team_id, parse_limits(row.limits)) for row in rows}
