"""Sends notifications: takes what is due from the outbox, tries it, and writes down what became of it.

Senders have a loop and thread of their own: what a receiver or a stranger's notifier does there holds up neither runs
nor heartbeats. A try that nobody tells of is made again by somebody else when its time is over, so a notification may
arrive twice, with the same id and body.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from jobdeck import limits
from jobdeck.clock import Clock
from jobdeck.delivery import Letter, MakeSender, Sender, Sent, Unsent, said_of
from jobdeck.engine.handler_loop import HandlerLoop
from jobdeck.errors import DatabaseError
from jobdeck.retry import Backoff
from jobdeck.secret import redact
from jobdeck.store.database import Database
from jobdeck.store.outbox.letters import (
    Fate,
    GiveBack,
    Parcel,
    Take,
    Tried,
    abandon,
    anything_due,
    give_back,
    take,
    tell,
)
from jobdeck.text import clean

_log = logging.getLogger("jobdeck.engine.courier")
# Seconds. A hint wakes it earlier; this finds what has become due by time.
_LOOK_EVERY: Final = 1.0
_ABANDON_EVERY: Final = 600.0
# A sender has a deadline of its own; this one is for senders that do not keep it, and the lease must outlast it.
_DEADLINE: Final = limits.DELIVERY_DEADLINE + 5
_LEASE_US: Final = int((_DEADLINE + 40) * 1_000_000)
_TELL_TRIES: Final = 20
_TELL_PAUSE: Final = 1.0
_WORDS_CHARS: Final = 500
_BACKOFF: Final = Backoff(limits.DELIVERY_BASE, limits.DELIVERY_FACTOR, limits.DELIVERY_CAP)


class Courier:
    """One per worker. `senders` by channel; without any it does nothing."""

    def __init__(self, database: Database, senders: Mapping[str, MakeSender], clock: Clock) -> None:
        self._database = database
        self._senders = senders
        self._clock = clock
        self._drawn = random.Random()
        self._loop: HandlerLoop | None = None
        self._made: dict[MakeSender, Sender] = {}
        """On the senders' loop alone."""
        self._under_way: dict[asyncio.Task[None], Parcel] = {}
        self._taking: asyncio.Task[None] | None = None
        """What it takes stands nowhere else until the database has answered."""
        self._stopped = False
        self._wake = asyncio.Event()
        self._service: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to look for what is due."""
        if self._senders:
            self._service = [asyncio.create_task(self._serve()), asyncio.create_task(self._tidy())]

    def look_again(self) -> None:
        """Something may have become due; on the engine's loop."""
        self._wake.set()

    async def nothing_left(self) -> bool:
        """Whether nothing is under way, nor due now. False while unknown."""
        if not self._senders:
            return True
        database, channels = self._database, tuple(self._senders)
        try:
            due = await database.read(lambda conn: anything_due(conn, database.now_of(conn), channels))
        except DatabaseError as error:
            _log.warning("cannot tell whether notifications are left: %s", error)
            return False
        # Looked at afterwards: what was due may have been taken before the database looked.
        return not (due or self._under_way or self._taking is not None)

    async def stop(self, seconds: float) -> None:
        """Stop at once; what is under way is given back for others. Takes at most six times so many seconds."""
        await _end(self._service, seconds)
        if self._taking is not None:
            await asyncio.wait({self._taking}, timeout=seconds)
        self._stopped = True
        under_way = dict(self._under_way)
        await _end(under_way, seconds)
        # Here, because a delivery that is cancelled before it has begun can do nothing itself.
        back = [parcel for task, parcel in under_way.items() if task.cancelled()]
        # Not `wait_for`, here and above: a write refuses to be cancelled, and would be waited for to its end.
        await asyncio.wait({asyncio.create_task(self._give_back(back))}, timeout=seconds)
        if self._loop is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.wrap_future(self._loop.run(self._close())), seconds)
            if not await asyncio.to_thread(self._loop.stop, seconds):
                _log.warning("a notifier has not let go; it ends with the process")

    async def _give_back(self, parcels: Sequence[Parcel]) -> None:
        with suppress(DatabaseError):
            back = [GiveBack(parcel.id, parcel.tries) for parcel in parcels]
            await self._database.write_many(give_back, back)

    # -- rounds -------------------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        while True:
            self._wake.clear()
            await self._survived(self._round)
            # Not `wait_for`, which before Python 3.12 forgets a cancel that comes along with what it waits for.
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_EVERY):
                    await self._wake.wait()

    async def _tidy(self) -> None:
        while True:
            await self._survived(lambda: self._database.write(abandon, tuple(self._senders)))
            await self._clock.sleep(_ABANDON_EVERY)

    async def _survived(self, act: Callable[[], Awaitable[Any]]) -> None:
        try:
            await act()
        except DatabaseError as error:
            _log.debug("notifications wait for the database: %s", error)
        except Exception:
            _log.exception("sending notifications has failed; it is tried again")

    async def _round(self) -> None:
        free = limits.DELIVERY_PARALLEL - len(self._under_way)
        database, channels = self._database, tuple(self._senders)
        if free < 1 or not await database.read(
            lambda conn: anything_due(conn, database.now_of(conn), channels)
        ):
            return
        busy = Counter(parcel.receiver for parcel in self._under_way.values())
        self._taking = asyncio.create_task(self._take(Take(channels, free, _LEASE_US, busy)))
        # A stop cancels the round, not this: what is taken and not given back is held up for its whole lease.
        await asyncio.shield(self._taking)

    async def _take(self, item: Take) -> None:
        try:
            parcels = await self._database.write(take, item)
            if self._stopped:
                await self._give_back(parcels)
                return
            for parcel in parcels:
                task = asyncio.create_task(self._deliver(parcel))
                self._under_way[task] = parcel
                task.add_done_callback(self._forget)
        finally:
            self._taking = None

    def _forget(self, task: asyncio.Task[None]) -> None:
        del self._under_way[task]
        self._wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a notification could not be written down: %s", error)

    # -- one notification ---------------------------------------------------------------------------------------

    async def _deliver(self, parcel: Parcel) -> None:
        await self._tell(await self._try(parcel))

    async def _try(self, parcel: Parcel) -> Tried:
        try:
            sent = await asyncio.wrap_future(self._sending_loop().run(self._send(parcel)))
        except Unsent as error:
            return self._unsent(parcel, error)
        except asyncio.CancelledError:
            # Of two kinds: a stop of this worker, and a sender that has cancelled itself.
            if _is_cancelled():
                raise
            return self._unsent(parcel, Unsent("CancelledError: the sender has cancelled itself"))
        return Tried(parcel.id, parcel.tries, Fate.DELIVERED, sent.code, sent.note)

    def _sending_loop(self) -> HandlerLoop:
        if self._loop is None:
            self._loop = HandlerLoop("jobdeck-deliveries")
            self._loop.start()
        return self._loop

    async def _send(self, parcel: Parcel) -> Sent:
        letter = Letter(parcel.message_id, parcel.endpoint, parcel.body, parcel.secrets)
        try:
            async with asyncio.timeout(_DEADLINE):
                return await self._sender(parcel.channel).send(letter)
        except TimeoutError:
            raise Unsent(f"nothing came of it within {_DEADLINE:g} s") from None
        except (Unsent, asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as error:
            # SystemExit too: on the engine's loop it would end the worker.
            raise Unsent(said_of(error)) from error

    def _sender(self, channel: str) -> Sender:
        make = self._senders[channel]
        if make not in self._made:
            self._made[make] = make()
        return self._made[make]

    async def _close(self) -> None:
        for sender in self._made.values():
            await sender.aclose()

    def _unsent(self, parcel: Parcel, error: Unsent) -> Tried:
        fate = Fate.GONE if error.gone else Fate.AGAIN if error.again else Fate.FAILED
        wait = _BACKOFF.delay(parcel.tries, self._drawn)
        if error.after is not None:
            wait = max(wait, min(error.after, limits.DELIVERY_CAP))
        words = clean(str(redact(str(error))), _WORDS_CHARS)
        return Tried(parcel.id, parcel.tries, fate, error.code, words, int(wait * 1_000_000), error.left)

    async def _tell(self, tried: Tried) -> None:
        """Write it down; for as long as the lease lasts, because else it would be sent once more."""
        for _ in range(_TELL_TRIES):
            try:
                await self._database.write(tell, tried)
                return
            except DatabaseError as error:
                _log.debug("what became of a notification waits for the database: %s", error)
            await self._clock.sleep(_TELL_PAUSE)


async def _end(tasks: Iterable[asyncio.Task[None]], seconds: float) -> None:
    waited = list(tasks)
    for task in waited:
        task.cancel()
    if waited:
        await asyncio.wait(waited, timeout=seconds)


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
