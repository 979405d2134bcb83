"""What a due schedule comes to: which of its fires are run, which were missed, and when it fires next."""

from __future__ import annotations

from datetime import datetime

from jobdeck.client.job_runs import build_fired_run
from jobdeck.client.session import Session
from jobdeck.definition import SchedulePart, parse_definition
from jobdeck.errors import JobdeckError, UnknownJobType
from jobdeck.model import Job, JobType
from jobdeck.states import CatchUp
from jobdeck.store.jobs.schedules import DueSchedule, Fire, next_fire


def plan_fire(session: Session, due: DueSchedule, registered: JobType | None, now: datetime) -> Fire:
    """The runs to be made by now, and the next fire. A job whose runs cannot be made goes on with a note of why.

    Raises ValidationError for a definition that cannot be read here, and UnknownJobType: another worker may know more.
    """
    part = parse_definition(due.facts).schedule
    if part is None:
        return Fire(due.id, due.next_fire_at, None, (), None, "its job has no schedule any more")
    upcoming = next_fire(part, due.job_id, now)
    fires, missed = _fires(part, due, now)
    note = None if not missed else f"{missed} missed fires were left out"
    job = _job_of(due, now)
    try:
        runs = tuple(build_fired_run(session, job, registered, due.id, fire_at) for fire_at in fires)
    except UnknownJobType:
        raise
    except JobdeckError as error:
        return Fire(due.id, due.next_fire_at, upcoming, (), None, f"no run was made: {error}")
    return Fire(due.id, due.next_fire_at, upcoming, runs, fires[-1] if fires else None, note)


def _fires(part: SchedulePart, due: DueSchedule, now: datetime) -> tuple[list[datetime], int]:
    """The fires to be run, oldest first; and whether others, at least so many, were missed and are left out."""
    schedule, first = part.schedule(due.job_id.hex), due.next_fire_at - datetime.resolution
    until = now if part.end is None else min(now, part.end)
    fresh_from = max(first, now - part.misfire_grace)
    # One more than may be run shows whether any are left out.
    found = schedule.fires_between(fresh_from, until, part.catch_up_max + 1)
    fresh = found[-part.catch_up_max :]
    left_out = len(found) - len(fresh)
    if fresh_from == first:
        return fresh, left_out
    most = {CatchUp.SKIP: 0, CatchUp.ONE: 0 if fresh else 1, CatchUp.ALL: part.catch_up_max - len(fresh)}
    wanted = most[part.catch_up]
    missed = schedule.fires_between(first, min(fresh_from, until), wanted + 1)
    taken = missed[len(missed) - wanted :] if wanted else []
    return [*taken, *fresh], left_out + len(missed) - len(taken)


def _job_of(due: DueSchedule, now: datetime) -> Job:
    place = (due.job_id, due.team_id, None, due.project, due.slug, due.version, True, due.facts)
    return Job(*place, now, "", now, "", None)
