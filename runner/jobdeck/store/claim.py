"""Claim: as many due runs as a worker has free slots, in one statement.

Of each lane (see `jobdeck.store.lanes`) at most `limit` due runs are looked at. Teams take turns, over the claims of a
worker too; inside a team the order is priority, due time, id. So neither 100,000 runs of one team nor of an unknown
type slow a claim down or keep another team waiting.

Where nothing is limited or paused, one statement chooses and takes. Else `jobdeck.store.control` chooses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Select,
    Update,
    bindparam,
    func,
    insert,
    null,
    select,
    update,
)

from jobdeck.errors import JobdeckError
from jobdeck.states import Status
from jobdeck.store.columns import Id
from jobdeck.store.control.choose import choose
from jobdeck.store.control.known import is_controlled, uncontrolled
from jobdeck.store.differences import Differences
from jobdeck.store.given import Rows
from jobdeck.store.jobs.latest import with_latest_versions
from jobdeck.store.lanes import KINDS, MOST, NOW, Wanted, candidates, heads, pulled, served, served_in_queues
from jobdeck.store.rare_facts import COMMON, HAS_RARE, RareFacts, rare_facts
from jobdeck.store.schema import checkpoints, leases, projects, runs, teams
from jobdeck.store.statement import statement
from jobdeck.store.transaction import Hint, Rank, Tx, verb

_TAKEN = (
    "id", "fence", "attempt", "team_id", "project_id", "job_type", "queue", "params", "max_attempts", "failures",
    "crash_count", "timeout_s", "debug_mode", "log_bytes", "priority", "due_at",
)  # fmt: skip
FIRST_TEAM: Final = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Claim:
    """What a worker asks for. Empty `queues` means every queue."""

    worker_id: UUID | None
    """None: no worker asks, but a program that claims from a pull queue; see `jobdeck.store.tokens.pull`."""
    worker: str
    limit: int
    lease_us: int
    job_types: tuple[str, ...]
    queues: tuple[str, ...] = ()
    last_team: UUID = FIRST_TEAM
    """Whose run it took last: the turn goes on after this team."""
    pull_of: UUID | None = None
    """The team whose pull queues these are; their runs are taken whatever their type."""

    @property
    def wanted(self) -> Wanted:
        """The lanes that it is about."""
        if self.pull_of is not None:
            return pulled
        return served_in_queues if self.queues else served


class ClaimedRun(NamedTuple):
    """A run that now belongs to this worker until its lease ends; `fence` guards everything it writes."""

    id: UUID
    fence: int
    attempt: int
    team_id: UUID
    team: str
    project_id: UUID | None
    project: str | None
    job_type: str
    queue: str
    params: str
    max_attempts: int
    failures: int
    crash_count: int
    timeout_s: float
    debug_mode: bool
    log_bytes: int
    resume: str | None
    lease_until: int
    rare: RareFacts = COMMON
    due_at: int = 0


@verb(Rank.CLAIM)
def claim(tx: Tx, items: Sequence[Claim]) -> Sequence[list[ClaimedRun] | JobdeckError]:
    """For each worker a list of runs, possibly empty."""
    return [_claim_for(tx, item) for item in items]


def _claim_for(tx: Tx, request: Claim) -> list[ClaimedRun]:
    if request.limit < 1 or not (request.job_types or request.pull_of):
        return []
    lease_until = tx.now + request.lease_us
    by = {
        "worker_id": request.worker_id,
        "worker": request.worker,
        "claimed_at": tx.now,
        "beat_at": tx.now,
        "lease_until": lease_until,
    }
    bound = by | {
        "now": tx.now,
        "most": request.limit,
        "job_types": request.job_types,
        "queues": request.queues,
        "last_team": request.last_team,
        "team": request.pull_of,
    }
    rows = (
        _take_chosen(tx, request.wanted, bound) if is_controlled(tx) else _TAKE[request.wanted].all(tx, bound)
    )
    if not rows:
        return []
    for row in rows:
        tx.count(row.team_id, row.job_type, Status.PENDING, Status.RUNNING)
    rare = rare_facts(tx, [row.id for row in rows if row.rare])
    rows = with_latest_versions(tx, rows, rare)
    rows.sort(key=lambda row: (row.priority, row.due_at, row.id))
    tx.hint(Hint.CHANGE)
    if not tx.differences.queries_change:
        shared = tuple(by.values())
        _leases.write(tx, [(row.id, row.team_id, row.fence, row.log_bytes, *shared) for row in rows])
    resumes = _resumes(tx, [row.id for row in rows if row.attempt > 1])
    slugs = _slugs_of(tx, rows)
    return [_claimed(row, lease_until, resumes, slugs, rare.get(row.id, COMMON)) for row in rows]


_OF_RUN = {"run_id": "id", "team_id": "team_id", "fence": "fence", "log_bytes": "log_bytes"}
_OF_CLAIM = ("worker_id", "worker", "claimed_at", "beat_at", "lease_until")
_leases = Rows(leases, (*_OF_RUN, *_OF_CLAIM))


def _take_chosen(tx: Tx, wanted: Wanted, bound: Mapping[str, Any]) -> list[Any]:
    ids = choose(tx, wanted, bound)
    return _take_ids.all(tx, {**bound, "ids": ids}) if ids else []


def _taking(is_chosen: ColumnElement[bool]) -> Update:
    return (
        update(runs)
        # By nothing but the id: the chosen ones are locked, or nobody else writes. With the status as well, a server
        # without statistics reads through the whole index of pending runs.
        .where(is_chosen)
        .values(
            status=Status.RUNNING,
            fence=runs.c.fence + 1,
            attempt=runs.c.attempt + 1,
            started_at=func.coalesce(runs.c.started_at, NOW),
            # A time to live is about the beginning, and this is it.
            expires_at=null(),
            revision=runs.c.revision + 1,
        )
        .returning(*(runs.c[name] for name in _TAKEN), HAS_RARE.label("rare"))
    )


def _with_leases(differences: Differences, taking: Update) -> Select[Any] | Update:
    """The same rows, and their leases made by the same statement, where a query may do that."""
    if not differences.queries_change:
        return taking
    taken = taking.cte("taken")
    values = {name: taken.c[source] for name, source in _OF_RUN.items()}
    given = {name: bindparam(name, type_=leases.c[name].type) for name in _OF_CLAIM}
    lease = insert(leases).from_select([*values, *given], select(*values.values(), *given.values()))
    return select(taken).add_cte(lease.cte("leased"))


@statement
def _take_ids(differences: Differences) -> Select[Any] | Update:
    return _with_leases(differences, _taking(differences.among(runs.c.id, "ids")))


def _take_first(wanted: Wanted, differences: Differences) -> Select[Any] | Update:
    chosen = _chosen(differences, wanted)
    return _with_leases(differences, _taking(differences.in_query(runs.c.id, chosen)))


_TAKE: Final = {wanted: statement(partial(_take_first, wanted)) for wanted in KINDS}


def _chosen(differences: Differences, wanted: Wanted) -> Select[Any]:
    """Ids of the runs to take: teams in turn, inside a team by priority, due time and id."""
    lanes = heads(differences, wanted, uncontrolled)
    found = candidates(differences, lanes).subquery("candidates")
    in_team = (found.c.priority, found.c.due_at, found.c.id)
    turn = func.row_number().over(partition_by=found.c.team_id, order_by=in_team)
    turns = select(found.c.id, found.c.team_id, turn.label("turn")).subquery("turns")
    had_its_turn = turns.c.team_id <= bindparam("last_team", type_=Id)
    return select(turns.c.id).order_by(turns.c.turn, had_its_turn, turns.c.team_id).limit(MOST)


@statement
def _states(differences: Differences) -> Select[Any]:
    return select(checkpoints.c.run_id, checkpoints.c.state).where(
        differences.among(checkpoints.c.run_id, "ids")
    )


@statement
def _slugs(differences: Differences) -> CompoundSelect[Any]:
    of_teams = select(teams.c.id, teams.c.slug).where(differences.among(teams.c.id, "teams"))
    of_projects = select(projects.c.id, projects.c.slug).where(differences.among(projects.c.id, "projects"))
    return of_teams.union_all(of_projects)


# A slug never changes, and an id never names anything else.
_known_slugs: dict[UUID, str] = {}
_SLUGS_MAX = 10_000


def _slugs_of(tx: Tx, rows: Sequence[Any]) -> dict[UUID, str]:
    team_ids = {row.team_id for row in rows}
    project_ids = {row.project_id for row in rows} - {None}
    found = {key: slug for key in team_ids | project_ids if (slug := _known_slugs.get(key)) is not None}
    if len(found) < len(team_ids | project_ids):
        found = {row.id: row.slug for row in _slugs.all(tx, {"teams": team_ids, "projects": project_ids})}
        if len(_known_slugs) > _SLUGS_MAX:
            _known_slugs.clear()
        _known_slugs.update(found)
    return found


def _resumes(tx: Tx, ids: list[UUID]) -> dict[UUID, str]:
    return {row.run_id: row.state for row in _states.all(tx, {"ids": ids})} if ids else {}


def _claimed(
    row: Any, lease_until: int, resumes: dict[UUID, str], slugs: dict[UUID, str], rare: RareFacts
) -> ClaimedRun:
    return ClaimedRun(
        id=row.id,
        fence=row.fence,
        attempt=row.attempt,
        team_id=row.team_id,
        team=slugs[row.team_id],
        project_id=row.project_id,
        project=slugs[row.project_id] if row.project_id else None,
        job_type=row.job_type,
        queue=row.queue,
        params=row.params,
        max_attempts=row.max_attempts,
        failures=row.failures,
        crash_count=row.crash_count,
        timeout_s=row.timeout_s,
        debug_mode=row.debug_mode,
        log_bytes=row.log_bytes,
        resume=resumes.get(row.id),
        lease_until=lease_until,
        rare=rare,
        due_at=row.due_at,
    )
