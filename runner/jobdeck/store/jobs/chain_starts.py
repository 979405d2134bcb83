"""The end of a run starts the jobs that depend on its job, in the transaction that stores the end.

Whoever changes the marks of a job has locked its row of `jobs`, after the runs that have ended: of two parents that end
at the same moment the second one sees the mark of the first.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import Select, and_, bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError

from jobdeck.errors import JobdeckError, ValidationError
from jobdeck.ids import show_id
from jobdeck.model import NewRun
from jobdeck.store.differences import Differences
from jobdeck.store.enqueue import enqueue
from jobdeck.store.events import Event, record
from jobdeck.store.failures import concerns_all
from jobdeck.store.jobs.run_template import run_of
from jobdeck.store.jobs.states import held_jobs
from jobdeck.store.schema import job_dependencies, job_templates, jobs, run_parents
from jobdeck.store.statement import statement
from jobdeck.store.transaction import JobEnd, Tx
from jobdeck.store.waiting import is_met

_log = logging.getLogger("jobdeck.store.jobs.chain_starts")


def start_dependants(tx: Tx) -> None:
    """Start what depends on the runs that have ended in this transaction.

    It never fails for a job that cannot be started: that is told in the history of the run that would have started it.
    """
    # A start may end others, as one that takes their place; it goes on down the chain, which has no cycle.
    while tx.ends:
        ends, tx.ends = tx.ends, []
        waiting = {row.job_id for row in _dependants.all(tx, {"ids": [end.job_id for end in ends]})}
        if waiting:
            # As whoever makes a run of them holds them, with whom this is in one transaction often enough.
            held_jobs(tx, waiting)
            _start_all(tx, _Marks(tx, waiting).put(ends))


@statement
def _dependants(differences: Differences) -> Select[Any]:
    depends_on = job_dependencies.c.depends_on_job_id
    return select(job_dependencies.c.job_id).where(differences.among(depends_on, "ids"))


class _Start(NamedTuple):
    job_id: UUID
    parents: dict[UUID, UUID]
    """The runs that have met the conditions, by their jobs."""
    last: UUID
    """The one of them that was the last."""


class _Marks:
    """Which conditions of some jobs have been met since their last start; their dependencies are locked."""

    def __init__(self, tx: Tx, job_ids: set[UUID]) -> None:
        self._tx = tx
        self._conditions: dict[UUID, dict[UUID, str]] = {}
        self._met: dict[UUID, dict[UUID, UUID]] = {}
        self._dependants: dict[UUID, list[UUID]] = {}
        query = select(job_dependencies).where(job_dependencies.c.job_id.in_(job_ids))
        query = query.order_by(job_dependencies.c.job_id)
        for row in tx.conn.execute(tx.differences.locked(query, by=job_dependencies.c.depends_on_job_id)):
            self._conditions.setdefault(row.job_id, {})[row.depends_on_job_id] = row.condition
            met = self._met.setdefault(row.job_id, {})
            if row.met_run_id is not None:
                met[row.depends_on_job_id] = row.met_run_id
            self._dependants.setdefault(row.depends_on_job_id, []).append(row.job_id)

    def put(self, ends: Sequence[JobEnd]) -> list[_Start]:
        """Mark what these ends have met, in their order: what is to be started now."""
        starts, changed = [], set()
        for end in ends:
            for job_id in self._dependants.get(end.job_id, ()):
                conditions, met = self._conditions[job_id], self._met[job_id]
                if not is_met(conditions[end.job_id], end.status):
                    continue
                met[end.job_id] = end.run_id
                changed.add(job_id)
                if len(met) == len(conditions):
                    starts.append(_Start(job_id, dict(met), end.run_id))
                    met.clear()
        self._write(changed)
        return starts

    def _write(self, changed: set[UUID]) -> None:
        rows = [
            {"job": job_id, "other": other, "run": self._met[job_id].get(other)}
            for job_id in sorted(changed)
            for other in self._conditions[job_id]
        ]
        if rows:
            self._tx.conn.execute(_MARK, rows)


_MARK: Final = (
    update(job_dependencies)
    .where(
        job_dependencies.c.job_id == bindparam("job"),
        job_dependencies.c.depends_on_job_id == bindparam("other"),
    )
    .values(met_run_id=bindparam("run"))
)


def _start_all(tx: Tx, starts: Sequence[_Start]) -> None:
    """An outcome must not be lost because of what it would start, nor a start because of another one."""
    if not starts:
        return
    for _ in range(2):
        try:
            with tx.attempt():
                _start(tx, starts)
                return
        except IntegrityError:
            # Somebody took a key between the look and the insert; the second look sees that.
            continue
        except Exception as error:
            if concerns_all(error):
                raise
            break
    for start in starts:
        _start_alone(tx, start)


def _start_alone(tx: Tx, start: _Start) -> None:
    try:
        with tx.attempt():
            _start(tx, [start])
            return
    except Exception as error:
        if concerns_all(error) and not isinstance(error, IntegrityError):
            raise
        shown = show_id("job", start.job_id)
        _log.error("%s cannot be started", shown, exc_info=error)
        told = {"job": shown, "reason": f"its run cannot be stored ({type(error).__name__})"}
    record(tx, [Event(start.last, "dependant_not_started", "system", told)])


def _start(tx: Tx, starts: Sequence[_Start]) -> None:
    templates = _templates(tx, {start.job_id for start in starts})
    built = [(start, *_built(templates.get(start.job_id), start)) for start in starts]
    events: list[Event] = []
    made: list[tuple[_Start, UUID]] = []
    new = [run for _, _, run in built if isinstance(run, NewRun)]
    results = dict(zip([run.id for run in new], enqueue(tx, new), strict=True))
    for start, slug, run in built:
        result = results[run.id] if isinstance(run, NewRun) else run
        if isinstance(run, NewRun) and result == run.id:
            made.append((start, run.id))
            told = {"job": slug, "run": show_id("run", run.id)}
            events.append(Event(start.last, "dependant_started", "system", told))
        else:
            told = {"job": slug, "reason": _reason(result)}
            events.append(Event(start.last, "dependant_not_started", "system", told))
    record(tx, events)
    parents = [
        {"run_id": run_id, "parent_run_id": parent, "job_id": job_id}
        for start, run_id in made
        for job_id, parent in start.parents.items()
    ]
    if parents:
        tx.conn.execute(insert(run_parents), parents)


def _reason(result: UUID | JobdeckError) -> str:
    if isinstance(result, JobdeckError):
        return str(result)
    return f"{show_id('run', result)} stands for it already"


def _templates(tx: Tx, job_ids: set[UUID]) -> dict[UUID, Any]:
    query = (
        select(jobs.c.id, jobs.c.slug, job_templates.c.version, job_templates.c.run)
        .outerjoin(
            job_templates,
            and_(job_templates.c.job_id == jobs.c.id, job_templates.c.version == jobs.c.version),
        )
        .where(jobs.c.id.in_(job_ids))
    )
    return {row.id: row for row in tx.conn.execute(query)} if job_ids else {}


def _built(template: Any, start: _Start) -> tuple[str, NewRun | JobdeckError]:
    """The slug of the job, and a run of it or why there can be none."""
    if template.run is None:
        return template.slug, ValidationError("its newest version has no template; update it once more")
    by = f"dependency:{show_id('run', start.last)}"
    try:
        return template.slug, run_of(template.run, version=template.version, triggered_by=by)
    except ValidationError as error:
        return template.slug, error
