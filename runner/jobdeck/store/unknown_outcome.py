"""What became of a transaction whose COMMIT got no answer, because the connection broke or the server fell silent.

It must neither be told as failed, for it may be stored, nor be done again, for it may be done twice. So every
transaction that changes what others see leaves a mark: the row of its lane takes its number. Whoever asks for that
row afterwards waits until the old transaction has ended one way or the other, and then knows. A mark is asked for by
the lane's own name, which is given up as soon as an answer is missing; so an old session never stands in the way.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from sqlalchemy import BigInteger, Connection, bindparam, text

from jobdeck.errors import DatabaseError, DatabaseUnavailable, OutcomeUnknown
from jobdeck.store.batch import Unit
from jobdeck.store.columns import Id
from jobdeck.store.leases import check_lease, save_checkpoint
from jobdeck.store.transaction import Hint, Rank

# Seconds. How long people and programs that ask for something are left without an answer while the database is away;
# a worker waits with what it has to store for as long as it must.
_PATIENCE = 30.0
_PATIENCE_OF_WORKERS = 3_600.0
_OF_WORKERS = (Rank.BEAT, Rank.REPORT, Rank.FINISH, Rank.CLAIM)
_PAUSE_MIN = 0.02
_PAUSE_MAX = 0.25
# Lanes give up their names, and doubts end, long before their rows may be forgotten.
_RENEW_AFTER = 900.0
_KEEP_US = 10_800 * 1_000_000
# So many times in a row a commit may break off and prove to have stored nothing.
_TRIES = 10

_lane = bindparam("lane", type_=Id)
_MARK = text(
    "INSERT INTO commit_marks (lane, number, since)"
    " VALUES (:lane, :number, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)"
    " ON CONFLICT (lane) DO UPDATE SET number = excluded.number"
    " RETURNING (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
).bindparams(_lane)
# Of a row that is not there nobody could tell whether it is about to be: so it is made, which waits for the other one.
_ASK = text(
    "INSERT INTO commit_marks AS mark (lane, number, since) VALUES (:lane, 0, 0)"
    " ON CONFLICT (lane) DO UPDATE SET number = mark.number RETURNING number"
).bindparams(_lane)
_FORGET_OLD = text(
    "DELETE FROM commit_marks WHERE lane IN (SELECT lane FROM commit_marks WHERE since < :before"
    " ORDER BY since LIMIT 100 FOR UPDATE SKIP LOCKED)"
).bindparams(bindparam("before", type_=BigInteger))


class Receipt(NamedTuple):
    """The mark that a transaction has left, if it was committed."""

    lane: UUID
    number: int


class Marks:
    """Those of one lane, which has one transaction at a time."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Go on under another name."""
        self._lane = uuid4()
        self._number = 0
        self._since = time.monotonic()

    def leave(self, conn: Connection) -> tuple[Receipt, int]:
        """Mark the open transaction; what to ask for later, and the database's clock, microseconds UTC."""
        if time.monotonic() - self._since > _RENEW_AFTER:
            self.renew()
        self._number += 1
        now = int(conn.execute(_MARK, {"lane": self._lane, "number": self._number}).scalar_one())
        if self._number == 1:
            conn.execute(_FORGET_OLD, {"before": now - _KEEP_US})
        return Receipt(self._lane, self._number), now


def was_committed(conn: Connection, receipt: Receipt) -> bool:
    """Whether the transaction with this receipt is stored. Waits for its end.

    The mark stays, for this answer may be lost too.
    """
    with conn.begin():
        number = int(conn.execute(_ASK, {"lane": receipt.lane}).scalar_one())
    return number >= receipt.number


@dataclass(frozen=True, slots=True)
class Doubt:
    """A transaction nobody knows the end of, and the results it has if it was committed."""

    receipt: Receipt
    units: Sequence[Unit]
    results: Sequence[Sequence[Any]]
    hints: Hint


def _repeatable(units: Sequence[Unit]) -> list[Unit]:
    """Signs of life, checkpoints, and questions whose answer would be that of another time."""
    return [
        unit for unit in units if unit.verb.rank is Rank.BEAT or unit.verb in (check_lease, save_checkpoint)
    ]


class Doubts:
    """Settles doubts beside the lanes, which meanwhile go on with what can be committed."""

    def __init__(
        self,
        ask: Callable[[Receipt], Awaitable[bool]],
        *,
        settled: Callable[[Sequence[Unit], Hint], None],
        again: Callable[[Sequence[Unit]], None],
    ) -> None:
        """`settled` hands results over; `again` queues units of which it is certain that nothing is stored."""
        self._ask = ask
        self._settled = settled
        self._again = again
        self._tasks: set[asyncio.Task[None]] = set()
        self._given_up = False

    def add(self, doubt: Doubt) -> None:
        """Find out what became of it. What may be repeated whatever it was does not wait for that."""
        self._end(_repeatable(doubt.units), DatabaseUnavailable("the connection to the database broke"))
        task = asyncio.create_task(self._resolve(doubt), name="jobdeck-doubt")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Whoever still waits is told that nobody knows, once the questions under way are answered."""
        self.give_up()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def give_up(self) -> None:
        """Ask no more."""
        self._given_up = True

    async def _resolve(self, doubt: Doubt) -> None:
        repeatable = _repeatable(doubt.units)
        left = [unit for unit in doubt.units if unit not in repeatable]
        committed = await self._find_out(doubt.receipt, left, _PATIENCE)
        if committed is None and not self._given_up:
            asked = [unit for unit in left if unit.verb.rank not in _OF_WORKERS]
            left = [unit for unit in left if unit.verb.rank in _OF_WORKERS]
            self._end(asked, OutcomeUnknown())
            committed = await self._find_out(doubt.receipt, left, _PATIENCE_OF_WORKERS)
        if committed:
            for unit, found in zip(doubt.units, doubt.results, strict=True):
                unit.settle(found)
            self._settled(doubt.units, doubt.hints)
        elif committed is None:
            self._end(left, OutcomeUnknown())
        elif self._given_up:
            # Nobody is left to do it again.
            self._end(left, DatabaseUnavailable("the database is closed"))
        else:
            self._try_again(left)

    async def _find_out(self, receipt: Receipt, units: Sequence[Unit], patience: float) -> bool | None:
        over = time.monotonic() + patience
        pause = _PAUSE_MIN
        while units and not self._given_up and time.monotonic() < over:
            try:
                # Whatever goes wrong: nobody else would ever answer those who wait.
                with suppress(Exception):
                    return await self._ask(receipt)
                await asyncio.sleep(pause)
                pause = min(pause * 2, _PAUSE_MAX)
            except asyncio.CancelledError:
                self._given_up = True
        return None

    def _try_again(self, units: Sequence[Unit]) -> None:
        worn = [unit for unit in units if unit.tries + 1 >= _TRIES]
        self._end(worn, DatabaseUnavailable("the connection to the database breaks at every commit"))
        fresh = [unit for unit in units if unit.tries + 1 < _TRIES]
        for unit in fresh:
            unit.tries += 1
        self._again(fresh)

    def _end(self, units: Sequence[Unit], failure: DatabaseError) -> None:
        for unit in units:
            unit.settle([failure] * len(unit.items))
        self._settled(units, Hint.NONE)
