"""How a list is read: along an index, entry by entry in the order of the list.

Where an index holds just what is asked for, as many entries are read as a page shows. What no index holds is looked
for in the rows along one, in a bounded number of them, so that the cost of a page grows neither with the history nor
with how rare the wanted runs are; the page then says how far it came. Which index gets furthest with that number is
found out by looking at the indexes alone: plans depend on no statistics, which SQLite does not even have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final, TypeAlias
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Tuple,
    and_,
    false,
    func,
    literal,
    select,
    tuple_,
    union_all,
)

from jobdeck.clock import to_us
from jobdeck.model import RunFilter, RunKey, TeamScope
from jobdeck.store.schema import runs

Key: TypeAlias = tuple[int, UUID]
"""(created_at in microseconds, id): the place of a run in the list."""

_KEY: Final = (runs.c.created_at, runs.c.id)
_LOWEST, _HIGHEST = UUID(int=0), UUID(int=(1 << 128) - 1)


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a team's list, read from its newest run or, `upward`, from its oldest."""

    scope: TeamScope
    below: Key | None
    """All runs are older than this one."""
    above: Key | None
    """All runs are newer than this one."""
    upward: bool


def span_of(
    scope: TeamScope, chosen: RunFilter, *, after: RunKey | None, before: RunKey | None, upward: bool
) -> Span:
    """The stretch between two places of the list and inside the times of the filter, which are part of it."""
    below = [(to_us(after.created_at), after.id)] if after else []
    above = [(to_us(before.created_at), before.id)] if before else []
    if chosen.until is not None:
        below.append((to_us(chosen.until) + 1, _LOWEST))
    if chosen.since is not None:
        above.append((to_us(chosen.since) - 1, _HIGHEST))
    return Span(scope, min(below, default=None), max(above, default=None), upward)


@dataclass(frozen=True, slots=True)
class Walk:
    """Entries of one index: those for which `along`, conditions on its first columns, holds."""

    along: tuple[ColumnElement[bool], ...]
    tests: tuple[ColumnElement[bool], ...]
    """What no index holds, and has to be looked at in the rows."""
    looks: int
    """At how many rows one page looks, where there are tests."""


Route: TypeAlias = tuple[Walk, ...]
"""Walks that together meet every run of a list, each once."""


def best(conn: Connection, span: Span, routes: Sequence[Route]) -> tuple[Route, Key | None]:
    """The route that gets furthest in one page, and the last entry it may look at; None where that is all there are."""
    exact = next((route for route in routes if not any(walk.tests for walk in route)), None)
    if exact is not None:
        return exact, None
    reached: list[tuple[Key, Route]] = []
    for stop, route in zip(_stops(conn, span, routes), routes, strict=True):
        if stop is None:
            return route, None
        reached.append((stop, route))
    furthest = max if span.upward else min
    stop, route = furthest(reached, key=itemgetter(0))
    return route, stop


def _stops(conn: Connection, span: Span, routes: Sequence[Route]) -> list[Key | None]:
    found: list[list[Key]] = [[] for _ in routes]
    last = [
        select(literal(number).label("route"), last.c.created_at, last.c.id)
        for number, route in enumerate(routes)
        for walk in route
        if walk.tests
        for last in [_walked(span, walk).offset(_plain(walk.looks)).limit(_plain(1)).subquery()]
    ]
    for number, created_at, run_id in conn.execute(union_all(*last)):
        found[number].append((created_at, run_id))
    # Of walks side by side, the one that is stopped first says how far all of them have been looked at.
    first = min if span.upward else max
    return [first(keys, default=None) for keys in found]


def matching(span: Span, route: Route, stop: Key | None, limit: int) -> Select[Any]:
    """The keys of the first runs along a route, up to and with `stop`."""
    parts = [_passing(span, walk, stop, limit) for walk in route]
    if len(parts) == 1:
        return parts[0]
    together = union_all(*(select(part.subquery()) for part in parts)).subquery()
    key = (together.c.created_at, together.c.id)
    return select(*key).order_by(*_order(span, *key)).limit(_plain(limit))


def _passing(span: Span, walk: Walk, stop: Key | None, limit: int) -> Select[Any]:
    query = _walked(span, walk, stop)
    if walk.tests:
        # So that planners neither look for the tested values in another index nor guess how rare they are.
        query = query.where(func.coalesce(and_(*walk.tests), false()))
    return query.limit(_plain(limit))


def _walked(span: Span, walk: Walk, stop: Key | None = None) -> Select[Any]:
    place = tuple_(*_KEY)
    below = None if span.below is None else place < _bound(span.below)
    above = None if span.above is None else place > _bound(span.above)
    if stop is not None:
        # Instead of the bound beyond it: of two bounds on one side SQLite may read along to the wrong one.
        if span.upward:
            below = place <= _bound(stop)
        else:
            above = place >= _bound(stop)
    bounds = [bound for bound in (below, above) if bound is not None]
    query = select(*_KEY).where(runs.c.team_id == span.scope.team_id, *walk.along, *bounds)
    return query.order_by(*_order(span, *_KEY))


def _order(span: Span, *columns: ColumnElement[Any]) -> Sequence[ColumnElement[Any]]:
    return columns if span.upward else [column.desc() for column in columns]


def _bound(key: Key) -> Tuple:
    # With the columns' own types: a plain UUID would be compared as text with SQLite's bytes, and never be less.
    return tuple_(literal(key[0], runs.c.created_at.type), literal(key[1], runs.c.id.type))


def _plain(number: int) -> ColumnElement[int]:
    # In the text of the statement: a plan made for any number would be one for a tenth of all entries.
    return literal(number, literal_execute=True)
