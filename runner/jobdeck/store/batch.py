"""Group commit: whatever waits becomes one transaction; each waiter gets its own results after the commit."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import groupby
from typing import Any, Final, NamedTuple, Protocol
from uuid import UUID

from sqlalchemy import Connection

from jobdeck.errors import DatabaseError
from jobdeck.store.audit.acts import Part as ActPart
from jobdeck.store.audit.acts import current, write_acts
from jobdeck.store.differences import Differences
from jobdeck.store.failures import Entangled, is_transient, may_have_committed, translate
from jobdeck.store.jobs.chain_starts import start_dependants
from jobdeck.store.lists.counts import write_counts
from jobdeck.store.locks import lock_for
from jobdeck.store.transaction import Hint, Rank, Tx, Verb

_log = logging.getLogger("jobdeck.store.batch")
_TRIES = (False, False, True)
"""Before the last one: whether it may wait for locks out of the order."""
_UNSETTLED: Any = object()
# Most claims of an idle worker find nothing and cost no write; a beat may be repeated.
_MAY_CHANGE_NOTHING = (Rank.BEAT, Rank.CLAIM)

Part = tuple[Verb[Any, Any], Sequence[Any]]
"""A verb and the items it is asked to write."""
Results = list[list[Any]]
"""For every part a result or error for each of its items."""


class Group:
    """The parts one caller brought, and the place for their results."""

    __slots__ = ("_deliver", "_delivered", "_left", "act", "parts", "results")

    def __init__(self, parts: Sequence[Part], deliver: Callable[[Results], None]) -> None:
        self.parts = parts
        self.act = current.get()
        """Whose doing it is."""
        self.results: Results = [[_UNSETTLED] * len(items) for _, items in parts]
        self._left = sum(len(items) for _, items in parts)
        self._deliver = deliver
        self._delivered = False

    def units(self, most: int) -> list[Unit]:
        """What is to be written, in pieces of at most `most` items."""
        return [
            Unit(self, index, start, items[start : start + most])
            for index, (_, items) in enumerate(self.parts)
            for start in range(0, len(items), most)
        ]

    def settle(self, part: int, start: int, found: Sequence[Any]) -> None:
        """Store results of some items; the first one of each stays."""
        results = self.results[part]
        for index, result in enumerate(found, start):
            if results[index] is _UNSETTLED:
                results[index] = result
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
    """Items of one part on their way into a transaction."""

    __slots__ = ("group", "items", "part", "start", "tries", "verb")

    def __init__(self, group: Group, part: int, start: int, items: Sequence[Any]) -> None:
        self.group = group
        self.part = part
        self.start = start
        self.items = items
        self.verb: Verb[Any, Any] = group.parts[part][0]
        self.tries = 0
        """Commits with it that broke off and proved to have stored nothing."""

    def settle(self, found: Sequence[Any]) -> None:
        """Store the results of these items."""
        self.group.settle(self.part, self.start, found)

    def split(self, at: int) -> tuple[Unit, Unit]:
        """Two units, the first with `at` items."""
        first = Unit(self.group, self.part, self.start, self.items[:at])
        second = Unit(self.group, self.part, self.start + at, self.items[at:])
        first.tries = second.tries = self.tries
        return first, second


def take(waiting: Iterable[Unit], most: int) -> tuple[list[Unit], list[Unit]]:
    """What goes into the next transaction, and what is left.

    Beats first; inside a rank in the order of arrival, units of one verb together; at most `most` items, but at least
    one unit.
    """
    ranked = sorted(waiting, key=lambda unit: (unit.verb.rank, unit.verb.name))
    room = most
    for index, unit in enumerate(ranked):
        room -= len(unit.items)
        if room < 0 and index:
            return ranked[:index], ranked[index:]
    return ranked, []


class Line(Protocol):
    """The way to a database that can break in the middle of a commit."""

    @property
    def silence(self) -> DatabaseError | None:
        """Why the session was ended from here, where the database did not answer."""

    def mark(self, conn: Connection) -> tuple[Any, int]:
        """Mark the open transaction: what to ask for its end by, and the database's clock."""

    def doubt(
        self, receipt: Any, units: Sequence[Unit], results: Sequence[Sequence[Any]], hints: Hint
    ) -> None:
        """The commit got no answer: find out what became of these units, and settle them then."""


class _Unanswered(Exception):
    """A marked transaction whose COMMIT was sent."""

    def __init__(self, receipt: Any, results: Sequence[Sequence[Any]], hints: Hint) -> None:
        super().__init__()
        self.receipt = receipt
        self.results = results
        self.hints = hints


def commit(
    conn: Connection,
    units: Sequence[Unit],
    differences: Differences,
    offset_us: int,
    line: Line | None = None,
) -> Hint:
    """Commit the units as one transaction and settle their results; the hints for others.

    A transaction that fails is split in halves until the bad item fails alone, or until it loses to others no more.
    What fails for every item alike (no disk, no connection) is not split. Where `line` breaks in the commit, the units
    are settled later.
    """
    return _commit_or_halve(conn, units, differences, offset_us, line, told=False)


def _commit_or_halve(
    conn: Connection,
    units: Sequence[Unit],
    differences: Differences,
    offset_us: int,
    line: Line | None,
    *,
    told: bool,
) -> Hint:
    try:
        results, hints = _attempt(conn, units, differences, offset_us, line)
    except _Unanswered as unanswered:
        assert line is not None  # noqa: S101  without one nothing is marked
        line.doubt(unanswered.receipt, units, unanswered.results, unanswered.hints)
        return Hint.NONE
    except Exception as error:
        failure = (line and line.silence) or translate(error)
        size = sum(len(unit.items) for unit in units)
        if size == 1 or (isinstance(failure, DatabaseError) and not is_transient(error)):
            for unit in units:
                unit.settle([failure] * len(unit.items))
            return Hint.NONE
        if not told:
            _tell_halved(units, size, error)
        done = Hint.NONE
        for half in _halves(units, size // 2):
            done |= _commit_or_halve(conn, half, differences, offset_us, line, told=True)
        return done
    for unit, found in zip(units, results, strict=True):
        unit.settle(found)
    return hints


def _tell_halved(units: Sequence[Unit], size: int, error: Exception) -> None:
    """Each may well succeed alone, and then nothing else would show why all is so slow."""
    # Not its words: a database's own quote the rows.
    kind = type(getattr(error, "orig", error)).__name__
    verbs = ", ".join(sorted({unit.verb.name for unit in units}))
    now = time.monotonic()
    if now - _told_halved.get((verbs, kind), -_TELL_AGAIN) >= _TELL_AGAIN:
        _told_halved[verbs, kind] = now
        _log.warning("%d changes (%s) failed together and are made in halves: %s", size, verbs, kind)


_TELL_AGAIN: Final = 60.0
_told_halved: dict[tuple[str, str], float] = {}


def _halves(units: Sequence[Unit], size: int) -> tuple[list[Unit], list[Unit]]:
    first: list[Unit] = []
    for index, unit in enumerate(units):
        if len(unit.items) > size:
            if size == 0:
                return first, list(units[index:])
            head, rest = unit.split(size)
            return [*first, head], [rest, *units[index + 1 :]]
        first.append(unit)
        size -= len(unit.items)
    return first, []


def _attempt(
    conn: Connection, units: Sequence[Unit], differences: Differences, offset_us: int, line: Line | None
) -> tuple[list[Sequence[Any]], Hint]:
    renewed = False
    late: set[UUID] = set()
    for patient in _TRIES:
        try:
            return _once(conn, units, _Try(differences, offset_us, late, patient), line)
        except _Unanswered:
            raise
        except Exception as error:
            if isinstance(error, Entangled):
                late |= error.run_ids
            # A session that broke before COMMIT was sent has stored nothing; the next try has a new one.
            renews = conn.invalidated and not renewed and line is not None and line.silence is None
            if not (renews or is_transient(error)):
                raise
            renewed = renewed or renews
    return _once(conn, units, _Try(differences, offset_us, late, patient=True), line)


class _Try(NamedTuple):
    """What a try has to go by."""

    differences: Differences
    offset_us: int
    late: Collection[UUID]
    """Runs that an earlier try has found out that it needs."""
    patient: bool


def _once(
    conn: Connection, units: Sequence[Unit], attempt: _Try, line: Line | None
) -> tuple[list[Sequence[Any]], Hint]:
    differences = attempt.differences
    results: list[Sequence[Any]] = []
    hints, receipt = Hint.NONE, None
    committing = False
    try:
        with conn.begin():
            if line is not None and any(unit.verb.rank not in _MAY_CHANGE_NOTHING for unit in units):
                receipt, now = line.mark(conn)
                now += attempt.offset_us
            else:
                now = differences.now(conn, attempt.offset_us)
            hints = _write_all(
                Tx(conn, now, differences, patient=attempt.patient), units, attempt.late, results
            )
            if line is not None and receipt is None and hints:
                receipt, _ = line.mark(conn)
            committing = True
    except Exception as error:
        if committing and receipt is not None and may_have_committed(error):
            raise _Unanswered(receipt, results, hints) from error
        raise
    return results, hints


def _write_all(tx: Tx, units: Sequence[Unit], late: Collection[UUID], results: list[Sequence[Any]]) -> Hint:
    _lock_in_order(tx, units, late)
    for _, same in groupby(units, key=lambda unit: unit.verb.name):
        results += _write(tx, list(same))
    start_dependants(tx)
    write_acts(tx, _parts_of_acts(units, results))
    write_counts(tx)
    return tx.hints


def _write(tx: Tx, units: Sequence[Unit]) -> list[Sequence[Any]]:
    """One call of a verb for all that ask for it; for each unit its share of the results."""
    verb = units[0].verb
    items = units[0].items if len(units) == 1 else [item for unit in units for item in unit.items]
    found = verb(tx, items)
    if len(found) != len(items):
        raise RuntimeError(f"{verb.name} gave {len(found)} results for {len(items)} items")
    if len(units) == 1:
        return [found]
    shares, start = [], 0
    for unit in units:
        shares.append(found[start : start + len(unit.items)])
        start += len(unit.items)
    return shares


def _parts_of_acts(units: Sequence[Unit], results: Sequence[Sequence[Any]]) -> list[ActPart]:
    return [
        (act, unit.items, found)
        for unit, found in zip(units, results, strict=True)
        if (act := unit.group.act) is not None
    ]


def _lock_in_order(tx: Tx, units: Sequence[Unit], late: Collection[UUID]) -> None:
    """One verb takes its locks in the order of all transactions; several, one after the other, would not."""
    waits = {unit.verb.name for unit in units if (of := unit.verb.locks) and of.matter(unit.items)}
    if len(waits) > 1 or late:
        wanted = [
            (locks, item) for unit in units if (locks := unit.verb.locks) is not None for item in unit.items
        ]
        lock_for(tx.conn, tx.differences, wanted, late)
        tx.locked = True


class Commit(asyncio.Future[Results]):
    """What a waiter awaits. A cancelled waiter still waits to the end, and is cancelled then.

    So nobody is ever left not knowing whether something was committed: a future that refuses to be cancelled makes
    asyncio raise the cancellation where the wait ends.
    """

    def cancel(self, msg: Any | None = None) -> bool:
        return False


async def outcome(future: asyncio.Future[Any]) -> Any:
    """Wait for a read to its end, also when the waiting task is cancelled meanwhile; then raise the cancellation."""
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
