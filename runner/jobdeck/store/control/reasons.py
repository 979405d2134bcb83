"""Pauses and limits in words: what holds one run back, and the command that lifts it. See `jobdeck.store.why`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, select

from jobdeck.clock import from_us, to_us
from jobdeck.durations import format_duration
from jobdeck.ids import show_id
from jobdeck.limits import DEFAULT_PROJECT
from jobdeck.model import Pause, Reason
from jobdeck.states import PauseKind
from jobdeck.store.control.budget import Budget, Lane, Limit, budget_now, window_of
from jobdeck.store.control.gates import Limits
from jobdeck.store.control.pauses import pauses_of, words_of
from jobdeck.store.control.rates import free_at
from jobdeck.store.schema import gates, jobs, leases, projects, runs

_SHOWN: Final = 3
"""Runs that are named of those that hold all places."""


def paused(conn: Connection, now: int, run_id: UUID) -> Iterator[Reason]:
    """The pauses that hold a run back."""
    for found in pauses_of(conn, now, runs, run_id):
        end = "" if found.until is None else f", for another {span(to_us(found.until) - now)}"
        why = f": {found.reason}" if found.reason else ""
        what = words_of(found.kind, found.name)
        yield Reason("paused", f"{what} is paused by {found.actor}{end}{why}", _resume(conn, run_id, found))


def _resume(conn: Connection, run_id: UUID, found: Pause) -> str:
    if found.kind in (PauseKind.ALL, PauseKind.TEAM):
        return f"jobdeck resume {found.kind}"
    project = None
    if found.kind is PauseKind.JOB:
        of_run = (
            select(projects.c.slug).join(runs, runs.c.project_id == projects.c.id).where(runs.c.id == run_id)
        )
        project = conn.execute(of_run).scalar()
    inside = f" --project {project}" if project not in (None, DEFAULT_PROJECT) else ""
    return f"jobdeck{inside} resume {found.kind} {found.name}"


def limited(conn: Connection, now: int, row: Any) -> Iterator[Reason]:
    """The limits that hold a run (team_id, queue, gate, concurrency_key) back, by the count that a claim makes."""
    budget = budget_now(conn, now, Lane(row.team_id, row.queue, row.gate))
    if not budget.knows(row.gate):
        words = "the limits it stands behind are unknown: somebody has changed it in the database"
        yield Reason("gate", words, f"jobdeck runs cancel {show_id('run', row.id)}")
    for limit in budget.limits(row):
        yield _reason(conn, now, row, limit, budget)


def _reason(conn: Connection, now: int, row: Any, limit: Limit, budget: Budget) -> Reason:
    limits = budget.limits_of(row.gate)
    job = _job_of(conn, row.gate)
    change = None if job is None else f"jobdeck jobs update {job} --set "
    match limit:
        case Limit.WINDOW:
            return Reason(
                "window", _opens(now, limits), change and f"{change}execution_window.cron='* * * * *'"
            )
        case Limit.JOB:
            holders = _holders(conn, runs.c.gate == row.gate)
            words = f"{limits.max_concurrency} runs of the job {job} may run at a time: {holders}"
            return Reason("concurrency", words, change and f"{change}max_concurrency=N")
        case Limit.KEY:
            same = (runs.c.gate == row.gate) & (runs.c.concurrency_key == row.concurrency_key)
            words = f"{limits.per_key} with the key {row.concurrency_key} may run at a time: {_holders(conn, same)}"
            return Reason("key", words, change and f"{change}max_concurrency_per_key=N")
        case Limit.RATE:
            return Reason("rate", _resets(conn, now, row.team_id, limits), None)
        case Limit.QUEUE:
            most = budget.queue_limit(row.team_id, row.queue)
            words = f"{most} runs of the queue {row.queue} may run at a time"
            return Reason("queue", words, f"jobdeck queues limit {row.queue} --max N")


def _opens(now: int, limits: Limits) -> str:
    found = None if limits.window is None else window_of(*limits.window)
    if found is None:
        return "its execution window cannot be read"
    opens = found.next_open(from_us(now))
    at = opens.astimezone(found.zone)
    return f"its execution window opens in {span(to_us(opens) - now)}, {at:%Y-%m-%d %H:%M %Z}"


def _resets(conn: Connection, now: int, team_id: UUID, limits: Limits) -> str:
    latest, rate = max((free_at(conn, now, team_id, rate), rate) for rate in limits.rates)
    window = format_duration(timedelta(microseconds=rate.window_us))
    name = f" {rate.name}" if rate.is_shared else ""
    return f"the rate limit{name} ({rate.most} per {window}) resets in {span(latest - now)}"


def _job_of(conn: Connection, gate: int) -> str | None:
    query = select(jobs.c.slug).join(gates, gates.c.job_id == jobs.c.id).where(gates.c.id == gate)
    found: str | None = conn.execute(query).scalar()
    return found


def _holders(conn: Connection, same: Any) -> str:
    query = (
        select(runs.c.id).join(leases, leases.c.run_id == runs.c.id).where(same).order_by(leases.c.claimed_at)
    )
    found: Sequence[UUID] = conn.execute(query.limit(_SHOWN)).scalars().all()
    return ", ".join(show_id("run", run_id) for run_id in found) or "it is about to be free"


def span(microseconds: int) -> str:
    """A time to wait by its two largest units, in whole seconds, never none: `1h59m`."""
    left = max(round(microseconds / 1_000_000), 1)
    parts = []
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")):
        number, left = divmod(left, size)
        parts.append(f"{number}{unit}" if number else "")
    first = next(index for index, part in enumerate(parts) if part)
    return "".join(parts[first : first + 2])
