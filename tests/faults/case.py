"""One fault case: a database, a ledger, workers, a client; at its end the invariants and one row of the report."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import Connection

from jobdeck.bootstrap import open_client
from jobdeck.client import Client
from jobdeck.settings import Settings
from tests.faults.history import History, dump, plain_engine, unsettled
from tests.faults.invariants import Breach, breaches
from tests.faults.ledger import Entry, Kind, Ledger, of_kind
from tests.faults.recovery import longest_recovery
from tests.faults.report import Row, write_row
from tests.faults.workers import Workers, merged

T = TypeVar("T")

# Seconds. The shortest lease there is, so that a case waits for it as little as it can.
LEASE = 2.0
POLL = 0.5
LONG_LEASE = {"runner": {"lease": "15s"}}
"""For cases in which no lease may be lost, however slow the machine is."""
# Generous: the machine may be shared, and a case that waits longer has found something.
PATIENCE = 90.0
_LOOK_EVERY = 0.1


class Size(StrEnum):
    """How much of a case is run: seconds of it with the other tests, all of it by `scripts/faults`."""

    SHORT = "short"
    WHOLE = "whole"

    def of(self, short: T, whole: T) -> T:
        """The figure of a case for this size."""
        return whole if self is Size.WHOLE else short


def base_settings(url: str, folder: Path) -> dict[str, Any]:
    """The configuration of every process of a case, unless it says otherwise."""
    return {
        "database_url": url,
        "data_dir": str(folder),
        "handlers": ["tests.faults.handlers"],
        "runner": {"lease": f"{LEASE}s", "poll": f"{POLL}s", "concurrency": 4, "shutdown_grace": "5s"},
        "database": {"busy_timeout": "5s"},
    }


@dataclass
class Case:
    """What a test of this folder works with."""

    name: str
    """As in the table of cases: R03."""
    title: str
    kind: str
    """`sqlite` or `postgresql`."""
    url: str
    folder: Path
    size: Size
    ledger: Ledger
    workers: Workers
    properties: list[tuple[str, object]]
    """Of the test; they go into its report."""
    begun: float = field(default_factory=time.monotonic)
    _asked: int = field(default=0, init=False)

    @property
    def file(self) -> Path:
        """The database's file; SQLite alone has one."""
        return Path(self.url.removeprefix("sqlite:///"))

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A transaction on the database, past jobdeck; committed at the end of the block."""
        with plain_engine(self.url).begin() as conn:
            yield conn

    @asynccontextmanager
    async def client(self, settings: Mapping[str, Any] | None = None) -> AsyncIterator[Client]:
        """A client in this process, on the case's database."""
        given = merged(self.workers.settings, settings or {})
        async with open_client(Settings(**given)) as client:
            yield client

    async def enqueue(
        self,
        client: Client,
        count: int = 1,
        job_type: str = "work",
        *,
        options: Mapping[str, Any] | None = None,
        **params: Any,
    ) -> list[UUID]:
        """Ask for runs, each under a key of its own, and write into the ledger what came back."""
        keys = [f"{self.name}-{self._asked + number}" for number in range(count)]
        self._asked += count
        self.ledger.asked(*keys)
        items = [{"key": key, **params} for key in keys]
        ids = await client.runs.trigger_many(job_type, items, **(options or {}))
        self.ledger.enqueued(dict(zip(keys, ids, strict=True)))
        return ids

    async def settled(self, patience: float = PATIENCE) -> None:
        """Return once no run waits for a worker or runs."""
        await self.until(lambda: unsettled(self.url) == 0, patience)

    async def until(self, holds: Callable[[], Any], patience: float = PATIENCE) -> Any:
        """The first true answer; the question is asked in a thread, for it may wait for a database."""
        deadline = time.monotonic() + patience
        while not (found := await asyncio.to_thread(holds)):
            assert time.monotonic() < deadline, ("waited too long", self.last_words())
            await asyncio.sleep(_LOOK_EVERY)
        return found

    def last_words(self) -> list[str]:
        """The end of each worker's log."""
        return [worker.said()[-1_500:] for worker in self.workers.started]

    def history(self) -> History:
        """The tables as they are now."""
        return dump(self.url)

    def effects(self) -> list[Entry]:
        """What handlers did so far."""
        return of_kind(self.ledger.read(), Kind.EFFECT)

    def judge(
        self,
        *,
        more: Sequence[Breach] = (),
        faults: int | None = None,
        recovery: float | None = None,
        throughput: float | None = None,
        note: str = "",
    ) -> History:
        """Check I1 to I5 and what the case has checked itself (`more`), add the row to the report, then fail or not.

        `faults` counts what the ledger does not; `recovery` is seconds, taken from the history where None;
        `throughput` is the rate afterwards over the rate before.
        """
        entries, history = self.ledger.read(), self.history()
        found = [*breaches(entries, history), *more]
        injected = of_kind(entries, Kind.FAULT)
        write_row(
            Row(
                case=self.name,
                title=self.title,
                database=self.kind,
                size=self.size,
                faults=len(injected) if faults is None else faults,
                runs=len(history.runs),
                lost=sum(1 for breach in found if breach.invariant == "I1"),
                doubles=sum(1 for breach in found if breach.invariant == "I3"),
                other=sum(1 for breach in found if breach.invariant not in ("I1", "I3")),
                recovery=longest_recovery(entries, history) if recovery is None else recovery,
                throughput=throughput,
                seconds=time.monotonic() - self.begun,
                note=note,
            ),
            self.properties,
        )
        shown = "\n".join(str(breach) for breach in found[:20])
        assert not found, f"{len(found)} breaches:\n{shown}\n" + "\n".join(self.last_words())
        return history
