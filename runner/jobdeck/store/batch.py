"""Group commit: whatever waits becomes one transaction; each waiter gets its own result after the commit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any

from sqlalchemy import Connection

from jobdeck.errors import DatabaseError
from jobdeck.store.differences import Differences
from jobdeck.store.failures import is_transient, translate
from jobdeck.store.transaction import Hint, Tx, Verb

_RETRIES = 3
_UNSETTLED: Any = object()


class Group:
    """The items one caller brought for one verb, and the place for their results."""

    __slots__ = ("_deliver", "_delivered", "_left", "items", "results", "verb")

    def __init__(
        self, verb: Verb[Any, Any], items: Sequence[Any], deliver: Callable[[list[Any]], None]
    ) -> None:
        self.verb = verb
        self.items = items
        self.results: list[Any] = [_UNSETTLED] * len(items)
        self._left = len(items)
        self._deliver = deliver
        self._delivered = False

    def settle(self, index: int, result: Any) -> None:
        """Store one result; the first one stays."""
        if self.results[index] is _UNSETTLED:
            self.results[index] = result
            self._left -= 1

    @property
    def complete(self) -> bool:
        """Whether every result is there."""
        return self._left == 0

    def deliver(self) -> None:
        """Hand the results over, on the waiter's own loop; once, though two connections may find the group complete."""
        if not self._delivered:
            self._delivered = True
            self._deliver(self.results)


class Unit:
    """One item of a group on its way into a transaction."""

    __slots__ = ("group", "index")

    def __init__(self, group: Group, index: int) -> None:
        self.group = group
        self.index = index

    @property
    def verb(self) -> Verb[Any, Any]:
        return self.group.verb

    @property
    def item(self) -> Any:
        return self.group.items[self.index]


def by_rank(units: Iterable[Unit]) -> list[Unit]:
    """Beats first; inside a rank in the order of arrival, items of one verb together."""
    return sorted(units, key=lambda unit: (unit.verb.rank, unit.verb.name))


def commit(conn: Connection, units: Sequence[Unit], differences: Differences, offset_us: int) -> Hint:
    """Commit the units as one transaction and settle their results; the hints for others.

    A transaction that fails is split in halves until the bad item fails alone. What fails for every item alike
    (no disk, no connection) is not split.
    """
    try:
        results, hints = _attempt(conn, units, differences, offset_us)
    except Exception as error:
        failure = translate(error)
        if len(units) == 1 or isinstance(failure, DatabaseError):
            for unit in units:
                unit.group.settle(unit.index, failure)
            return Hint.NONE
        half = len(units) // 2
        return commit(conn, units[:half], differences, offset_us) | commit(
            conn, units[half:], differences, offset_us
        )
    for unit, result in zip(units, results, strict=True):
        unit.group.settle(unit.index, result)
    return hints


def _attempt(
    conn: Connection, units: Sequence[Unit], differences: Differences, offset_us: int
) -> tuple[list[Any], Hint]:
    for _ in range(_RETRIES):
        try:
            return _once(conn, units, differences, offset_us)
        except Exception as error:
            if not is_transient(error):
                raise
    return _once(conn, units, differences, offset_us)


def _once(
    conn: Connection, units: Sequence[Unit], differences: Differences, offset_us: int
) -> tuple[list[Any], Hint]:
    results: list[Any] = []
    with conn.begin():
        tx = Tx(conn, differences.now(conn, offset_us), differences)
        for _, same in groupby(units, key=lambda unit: unit.verb.name):
            part = list(same)
            found = part[0].verb(tx, [unit.item for unit in part])
            if len(found) != len(part):
                raise RuntimeError(f"{part[0].verb.name} gave {len(found)} results for {len(part)} items")
            results.extend(found)
        if tx.hints:
            differences.announce(conn, tx.hints.value)
    return results, tx.hints


async def outcome(future: asyncio.Future[Any]) -> Any:
    """Wait for a transaction to its end, also when the waiting task is cancelled meanwhile.

    So nobody is ever left not knowing whether something was committed; the cancellation is raised afterwards.
    """
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.shield(future)
        except asyncio.CancelledError as error:
            if future.cancelled():
                raise
            cancelled = error
        except Exception:  # noqa: S112  re-raised by result() below
            continue
    if cancelled is not None:
        future.exception()
        raise cancelled
    return future.result()


def unwrap(result: Any) -> Any:
    """The result of one item; raises it where it is an error."""
    if isinstance(result, Exception):
        raise result
    return result
