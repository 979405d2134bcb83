"""Lists of runs: keyset pages newest first. Every query has a team."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Connection, select, true

from jobdeck.clock import from_us
from jobdeck.model import Run, RunFilter, RunKey, RunStretch, TeamScope
from jobdeck.store.differences import Differences
from jobdeck.store.lists.routes import routes_of
from jobdeck.store.lists.rows import select_runs, to_runs
from jobdeck.store.lists.walks import best, matching, span_of
from jobdeck.store.schema import runs


def page(
    conn: Connection,
    now: int,
    scope: TeamScope,
    chosen: RunFilter,
    *,
    differences: Differences,
    limit: int,
    after: RunKey | None = None,
    before: RunKey | None = None,
    last: bool = False,
) -> RunStretch:
    """Runs older than `after`, newer than `before`, or the oldest ones (`last`), at most `limit`.

    Raises ValidationError for a status that is none.
    """
    span = span_of(scope, chosen, after=after, before=before, upward=last or before is not None)
    routes = routes_of(conn, differences, now, scope, chosen)
    if not routes:
        return RunStretch((), from_us(now))
    route, stop = best(conn, span, routes)
    keys = matching(span, route, stop, limit).subquery("keys")
    query = select_runs().join(keys, keys.c.id == runs.c.id)
    found = to_runs(conn, scope, conn.execute(query).all(), now)
    found.sort(key=lambda run: run.key, reverse=True)
    stopped = None if stop is None or len(found) >= limit else RunKey(from_us(stop[0]), stop[1])
    return RunStretch(tuple(found), from_us(now), stopped)


def by_ids(conn: Connection, now: int, scope: TeamScope, ids: Sequence[UUID]) -> list[Run]:
    """These runs of the team, in no order; unknown ones are left out."""
    # Not as a plain condition: without statistics SQLite would look through the team for them.
    mine = (runs.c.team_id == scope.team_id).is_(true())
    query = select_runs().where(mine, runs.c.id.in_(ids))
    return to_runs(conn, scope, conn.execute(query).all(), now)


def exists(conn: Connection, scope: TeamScope, run_id: UUID) -> bool:
    """Whether the team has this run."""
    query = select(runs.c.id).where(runs.c.team_id == scope.team_id, runs.c.id == run_id)
    return conn.execute(query).first() is not None
