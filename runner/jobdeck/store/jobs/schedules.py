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

from sqlalchemy import Connection, Update, and_, delete, func, insert, or_, select, update

from jobdeck.clock import from_us, to_us
from jobdeck.definition import SchedulePart, parse_definition
from jobdeck.errors import JobdeckError, ValidationError
from jobdeck.ids import new_id
from jobdeck.model import JobRef, NewRun
from jobdeck.store.differences import Differences, Given
from jobdeck.store.enqueue import enqueue
from jobdeck.store.given import GivenRows
from jobdeck.store.jobs.states import held_jobs
from jobdeck.store.schema import job_versions, jobs, projects, runs, schedules, teams
from jobdeck.store.transaction import Hint, Rank, Tx, verb
from jobdeck.text import clean

_AT_ONCE: Final = 1_000
_NOTE_CHARS: Final = 500


class DueFire(NamedTuple):
    """A schedule, and its fire whose time has come."""

    id: UUID
    due_us: int


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


def due_fires(conn: Connection, now: int, after: DueFire | None = None) -> list[DueFire]:
    """Schedules whose time has come, those that have waited longest first; at most a thousand, behind `after`."""
    query = (
        select(schedules.c.id, schedules.c.next_fire_at)
        .where(schedules.c.next_fire_at.is_not(None), schedules.c.next_fire_at <= now)
        .order_by(schedules.c.next_fire_at, schedules.c.id)
        .limit(_AT_ONCE)
    )
    if after is not None:
        same = and_(schedules.c.next_fire_at == after.due_us, schedules.c.id > after.id)
        query = query.where(or_(schedules.c.next_fire_at > after.due_us, same))
    return [DueFire._make(row) for row in conn.execute(query)]


def due_schedules(conn: Connection, fires: Sequence[DueFire]) -> list[DueSchedule]:
    """Those of these that nobody has moved on meanwhile."""
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
        .where(schedules.c.id.in_([fire.id for fire in fires]))
        .order_by(schedules.c.next_fire_at, schedules.c.id)
    )
    seen = set(fires)
    found = (DueSchedule._make(row) for row in conn.execute(query))
    return [due for due in found if (due.id, due.due_us) in seen]


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
    mine = _unmoved(tx, items)
    known = _known_fires(tx, [items[index] for index in mine])
    new = {index: [run for run in items[index].runs if _fire_of(run) not in known] for index in mine}
    # All of them at once: each statement is sent once, however many schedules fire.
    results = iter(enqueue(tx, [run for some in new.values() for run in some]))
    made = [0] * len(items)
    moved = []
    for index, some in new.items():
        found = [next(results) for _ in some]
        own = [run.id for run, result in zip(some, found, strict=True) if result == run.id]
        made[index] = len(own)
        moved.append(_moved_on(items[index], own, _note(items[index], some, found)))
    _schedules.write(tx, moved)
    return made


def _unmoved(tx: Tx, items: Sequence[Fire]) -> list[int]:
    """Which of these fires are still to be dealt with; their schedules are locked until the transaction has ended."""
    query = select(schedules.c.id, schedules.c.next_fire_at).where(
        schedules.c.id.in_({item.schedule_id for item in items}),
        schedules.c.next_fire_at.in_({to_us(item.seen) for item in items}),
    )
    # One that is locked is being fired by somebody else, who may take long over it.
    rows = tx.conn.execute(tx.differences.unlocked_only(query.order_by(schedules.c.id), schedules))
    waits_for = {row.id: row.next_fire_at for row in rows}
    mine = []
    for index, item in enumerate(items):
        if waits_for.get(item.schedule_id) == to_us(item.seen):
            # Each moves on once, also where two have asked.
            del waits_for[item.schedule_id]
            mine.append(index)
    return mine


def _known_fires(tx: Tx, items: Sequence[Fire]) -> set[tuple[UUID, int]]:
    """Jobs with the fires that have their runs already: a clock that was set back repeats them."""
    fires = {fire for item in items for run in item.runs if (fire := _fire_of(run))}
    if not fires:
        return set()
    query = select(runs.c.job_id, runs.c.fire_at).where(
        runs.c.job_id.in_({job_id for job_id, _ in fires}),
        runs.c.fire_at.in_({at for _, at in fires}),
        runs.c.fire_at.is_not(None),
    )
    return {(row.job_id, row.fire_at) for row in tx.conn.execute(query)}


def _moved_on(item: Fire, made: Sequence[UUID], note: str | None) -> tuple[Any, ...]:
    last_run_id = made[-1] if made else None
    return item.schedule_id, _us(item.next_fire_at), note, _us(item.last_fire_at), last_run_id


def _move_on(_differences: Differences, given: Given) -> list[Update]:
    # What there is none of this time stays as it is.
    kept = {
        name: func.coalesce(given.values[name], schedules.c[name]) for name in ("last_fire_at", "last_run_id")
    }
    plain = {name: given.values[name] for name in ("next_fire_at", "note")}
    return [update(schedules).where(given.present, schedules.c.id == given.values["id"]).values(plain | kept)]


_schedules = GivenRows(
    [schedules.c[name] for name in ("id", "next_fire_at", "note", "last_fire_at", "last_run_id")], _move_on
)


def _fire_of(run: NewRun) -> tuple[UUID, int] | None:
    ref = _ref(run)
    return None if ref is None or ref.fire_at is None else (ref.id, to_us(ref.fire_at))


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
