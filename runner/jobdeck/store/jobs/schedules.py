"""When jobs fire: what is due, and its runs made in the transaction that moves the schedule on.

A schedule moves on from the fire that a worker has seen to be due, and from no other: of many that see it, one makes
the runs. A constraint on job and fire time says the same once more.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, and_, delete, insert, or_, select, update

from jobdeck.clock import from_us, to_us
from jobdeck.definition import SchedulePart, parse_definition
from jobdeck.errors import JobdeckError, ValidationError
from jobdeck.ids import new_id
from jobdeck.model import JobRef, NewRun
from jobdeck.store.enqueue import enqueue
from jobdeck.store.jobs.states import held_jobs
from jobdeck.store.schema import job_versions, jobs, projects, runs, schedules, teams
from jobdeck.store.transaction import Hint, Rank, Tx, verb
from jobdeck.text import clean

_AT_ONCE: Final = 100
_NOTE_CHARS: Final = 500


class DueSchedule(NamedTuple):
    """A schedule whose time has come, with all that its runs are made of."""

    id: UUID
    job_id: UUID
    slug: str
    version: int
    definition: str
    team_id: UUID
    team: str
    project: str | None
    due_us: int

    @property
    def facts(self) -> dict[str, Any]:
        """The definition of its job. Raises ValidationError for what is none: rows are hostile."""
        try:
            found = json.loads(self.definition)
        except (TypeError, ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise ValidationError("the definition of the job is no JSON object", field="definition")
        return found

    @property
    def next_fire_at(self) -> datetime:
        """The fire that is due. Raises ValidationError for what is no time."""
        try:
            # SQLite keeps what is no whole number, and no fire would be found to be this one.
            return from_us(operator.index(self.due_us))
        except (TypeError, OverflowError):
            raise ValidationError("the time of the next fire is out of range", field="next_fire_at") from None


@dataclass(frozen=True, slots=True)
class NotFired:
    """A due schedule that a worker cannot fire: `note` says why, until another worker can."""

    schedule_id: UUID
    due_us: int
    note: str


@dataclass(frozen=True, slots=True)
class Fire:
    """What a due schedule comes to: its runs, where it goes on, and why there are fewer runs than fires."""

    schedule_id: UUID
    seen: datetime
    """The fire that was due; whoever moved the schedule on meanwhile has dealt with it."""
    next_fire_at: datetime | None
    runs: tuple[NewRun, ...]
    last_fire_at: datetime | None
    note: str | None = None


def due_schedules(conn: Connection, now: int, after: DueSchedule | None = None) -> list[DueSchedule]:
    """Schedules whose time has come, those that have waited longest first; at most a hundred, behind `after`."""
    query = (
        select(
            schedules.c.id,
            schedules.c.job_id,
            jobs.c.slug,
            jobs.c.version,
            job_versions.c.definition,
            schedules.c.team_id,
            teams.c.slug,
            projects.c.slug,
            schedules.c.next_fire_at,
        )
        .select_from(
            schedules.join(jobs, jobs.c.id == schedules.c.job_id)
            .join(
                job_versions,
                and_(job_versions.c.job_id == jobs.c.id, job_versions.c.version == jobs.c.version),
            )
            .join(teams, teams.c.id == schedules.c.team_id)
            .outerjoin(projects, projects.c.id == jobs.c.project_id)
        )
        .where(schedules.c.next_fire_at.is_not(None), schedules.c.next_fire_at <= now)
        .order_by(schedules.c.next_fire_at, schedules.c.id)
        .limit(_AT_ONCE)
    )
    if after is not None:
        same = and_(schedules.c.next_fire_at == after.due_us, schedules.c.id > after.id)
        query = query.where(or_(schedules.c.next_fire_at > after.due_us, same))
    return [DueSchedule._make(row) for row in conn.execute(query)]


def still_due(conn: Connection, due: Sequence[DueSchedule]) -> list[DueSchedule]:
    """Those that nobody has moved on meanwhile."""
    query = select(schedules.c.id, schedules.c.next_fire_at).where(
        schedules.c.id.in_([each.id for each in due])
    )
    found = {(row.id, row.next_fire_at) for row in conn.execute(query)}
    return [each for each in due if (each.id, each.due_us) in found]


@verb(Rank.CHANGE)
def note_not_fired(tx: Tx, items: Sequence[NotFired]) -> Sequence[None]:
    """Have the jobs say why their schedules stand still, as far as they still do."""
    for item in items:
        still = (schedules.c.id == item.schedule_id, schedules.c.next_fire_at == item.due_us)
        tx.conn.execute(update(schedules).where(*still).values(note=clean(item.note, _NOTE_CHARS)))
    tx.hint(Hint.CHANGE)
    return [None] * len(items)


@verb(Rank.ENQUEUE)
def fire(tx: Tx, items: Sequence[Fire]) -> Sequence[int | JobdeckError]:
    """How many runs each schedule has made; none where another worker has moved it on."""
    # Before the schedules, as who changes a job does.
    held_jobs(tx, {ref.id for item in items for run in item.runs if (ref := _ref(run))})
    # Locked in one order: two workers must not wait for each other.
    order = sorted(range(len(items)), key=lambda index: items[index].schedule_id)
    made = {index: _fire(tx, items[index]) for index in order}
    return [made[index] for index in range(len(items))]


def _fire(tx: Tx, item: Fire) -> int:
    query = select(schedules.c.next_fire_at).where(
        schedules.c.id == item.schedule_id, schedules.c.next_fire_at == to_us(item.seen)
    )
    # One that is locked is being fired by somebody else, who may take long over it.
    if tx.conn.execute(tx.differences.unlocked_only(query, schedules)).one_or_none() is None:
        return 0
    new = _not_made_yet(tx, item.runs)
    results = enqueue(tx, new)
    made = [run.id for run, result in zip(new, results, strict=True) if result == run.id]
    values: dict[str, Any] = {"next_fire_at": _us(item.next_fire_at), "note": _note(item, new, results)}
    if item.last_fire_at is not None:
        values["last_fire_at"] = to_us(item.last_fire_at)
    if made:
        values["last_run_id"] = made[-1]
    tx.conn.execute(update(schedules).where(schedules.c.id == item.schedule_id).values(values))
    return len(made)


def _not_made_yet(tx: Tx, new: Sequence[NewRun]) -> list[NewRun]:
    """Without the fires that have their runs already: a clock that was set back repeats them."""
    fires = {run.id: to_us(ref.fire_at) for run in new if (ref := _ref(run)) and ref.fire_at}
    job_ids = {ref.id for run in new if (ref := _ref(run))}
    query = select(runs.c.fire_at).where(
        runs.c.job_id.in_(job_ids), runs.c.fire_at.in_(fires.values()), runs.c.fire_at.is_not(None)
    )
    known = set(tx.conn.execute(query).scalars()) if fires else set()
    return [run for run in new if fires.get(run.id) not in known]


def _ref(run: NewRun) -> JobRef | None:
    return None if run.extras is None else run.extras.job


def _note(item: Fire, new: Sequence[NewRun], results: Sequence[UUID | JobdeckError]) -> str | None:
    """Why there are fewer runs than fires."""
    for run, result in zip(new, results, strict=True):
        if isinstance(result, JobdeckError):
            return clean(str(result), _NOTE_CHARS)
        if result != run.id:
            return "skipped: the run of an earlier fire is still active"
    return None if item.note is None else clean(item.note, _NOTE_CHARS)


def keep_schedule(
    tx: Tx, team_id: UUID, job_id: UUID, definition: str, *, enabled: bool, before: str | None = None
) -> None:
    """Bring the schedule of a job to its newest definition.

    One that says the same as `before` keeps the fire it waits for; an enabled one else begins with the first after now.
    """
    part = schedule_of(definition)
    if part is None:
        tx.conn.execute(delete(schedules).where(schedules.c.job_id == job_id))
        return
    found = tx.conn.execute(select(schedules.c.id).where(schedules.c.job_id == job_id)).scalar()
    if found is None:
        found = new_id()
        new = {"id": found, "job_id": job_id, "team_id": team_id}
        tx.conn.execute(insert(schedules), new)
    elif before is not None and schedule_of(before) == part:
        return
    set_next_fire(tx, job_id, part, enabled=enabled)


def set_next_fire(tx: Tx, job_id: UUID, part: SchedulePart, *, enabled: bool) -> None:
    """The first fire after now, or none while the job is disabled: what was missed meanwhile is not caught up."""
    fire_at = next_fire(part, job_id, from_us(tx.now)) if enabled else None
    tx.conn.execute(
        update(schedules).where(schedules.c.job_id == job_id).values(next_fire_at=_us(fire_at), note=None)
    )


def next_fire(part: SchedulePart, job_id: UUID, after: datetime) -> datetime | None:
    """The first fire after a moment, inside the bounds of the schedule; None where there is none any more."""
    # A fire at the very start counts.
    earliest = after if part.start is None else max(after, part.start - _MOMENT)
    try:
        found = part.schedule(job_id.hex).next_after(earliest)
    except ValidationError:
        return None
    return None if part.end is not None and found > part.end else found


_MOMENT: Final = datetime.resolution


def schedule_of(definition: str) -> SchedulePart | None:
    """The schedule of a stored definition."""
    return parse_definition(json.loads(definition)).schedule


def _us(moment: datetime | None) -> int | None:
    return None if moment is None else to_us(moment.astimezone(UTC))
