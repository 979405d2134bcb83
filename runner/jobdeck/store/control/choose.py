"""Which runs a worker takes where something is limited or paused.

The order is that of every claim: teams in turn, inside a team by priority, due time and id. What a limit keeps back is
passed over. A run whose key has no place left is put aside (`turns`), or thousands of one key would hide all others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, FromClause, Select, func, select, true

from jobdeck.store.control.budget import Budget, Lane, Limit, budget_for, lane_of
from jobdeck.store.control.pauses import not_paused
from jobdeck.store.control.rates import tell_uses
from jobdeck.store.control.turns import put_aside
from jobdeck.store.differences import Differences
from jobdeck.store.lanes import KINDS, Wanted, candidates, heads
from jobdeck.store.statement import statement
from jobdeck.store.transaction import Tx

_LOOKS: Final = 5
"""How often a claim looks behind runs that it has put aside."""
_WIDER: Final = 200
"""How many runs of each lane it looks at then."""


def choose(tx: Tx, wanted: Wanted, bound: Mapping[str, Any]) -> list[UUID]:
    """The runs to take, locked; `bound` are the parameters of a claim. Whoever is chosen counts as running already."""
    lanes = [Lane(*row) for row in _LANES[wanted].all(tx, bound)]
    if not lanes:
        return []
    budget = budget_for(tx, lanes)
    chosen: list[UUID] = []
    most = bound["most"]
    look = dict(bound)
    for _ in range(_LOOKS):
        look["shut"] = budget.shut()
        rows = _FOUND[wanted].all(tx, look)
        found = [row for row in rows if row.id not in chosen and lane_of(row) in budget.lanes]
        aside = _pick(found, budget, most, chosen, bound["last_team"])
        if not aside:
            break
        put_aside(tx, aside)
        if len(chosen) >= most:
            break
        look["most"] = max(most, _WIDER)
    tell_uses(tx, budget.used)
    return chosen


def _pick(rows: Sequence[Any], budget: Budget, most: int, chosen: list[UUID], last_team: UUID) -> list[UUID]:
    """Add runs to the chosen ones, team by team; those whose key has no place left."""
    aside: list[UUID] = []
    ordered = sorted(
        rows, key=lambda row: (row.team_id <= last_team, row.team_id, row.priority, row.due_at, row.id)
    )
    teams = [iter(list(of_team)) for _, of_team in groupby(ordered, key=lambda row: row.team_id)]
    while teams and len(chosen) < most:
        teams = [team for team in teams if len(chosen) < most and _take_next(team, budget, chosen, aside)]
    return aside


def _take_next(team: Iterator[Any], budget: Budget, chosen: list[UUID], aside: list[UUID]) -> bool:
    """Take the next run of a team that may begin; False where it has none."""
    for row in team:
        limit = budget.limit(row)
        if limit is None:
            budget.take(row)
            chosen.append(row.id)
            return True
        if limit is Limit.KEY:
            aside.append(row.id)
    return False


def _unpaused(_: Differences, head: FromClause) -> Sequence[ColumnElement[bool]]:
    return (not_paused(head),)


def _open(differences: Differences, head: FromClause) -> Sequence[ColumnElement[bool]]:
    # A list is filled up with NULLs, among which nothing is known to be absent.
    return (func.coalesce(~differences.among(head.c.gate, "shut"), true()),)


def _lanes(wanted: Wanted, differences: Differences) -> Select[Any]:
    found = heads(differences, wanted, _unpaused)
    return select(found.c.team_id, found.c.queue, found.c.gate).distinct()


def _found(wanted: Wanted, differences: Differences) -> Select[Any]:
    lanes = heads(differences, wanted, _unpaused, _open)
    return candidates(differences, lanes, "queue", "gate", "concurrency_key")


_LANES: Final = {wanted: statement(partial(_lanes, wanted)) for wanted in KINDS}
_FOUND: Final = {wanted: statement(partial(_found, wanted)) for wanted in KINDS}
