"""Which attempts this worker holds: those whose handler runs and those whose outcome is not stored yet."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from uuid import UUID

from jobdeck.engine.execution import Execution
from jobdeck.verdict import Ending

Ended = tuple[Execution, Ending]


class Slots:
    """`running` is touched on the engine's loop alone; endings arrive from the handlers' loop."""

    def __init__(self, size: int, wake: Callable[[], None]) -> None:
        self.size = size
        self.running: dict[tuple[UUID, int], Execution] = {}
        self.stuck: dict[tuple[UUID, int], Execution] = {}
        """Given up, and still in the way of others as far as is known: its thread runs or its loop has not answered."""
        self.finished = 0
        self._wake = wake
        self._arrived: deque[Ended] = deque()
        self._let_go: deque[Execution] = deque()
        self._unstored: list[Ended] = []
        self._storing: dict[tuple[UUID, int], Ended] = {}
        self._lock = threading.Lock()
        self._telling = False

    @property
    def free(self) -> int:
        """How many more runs may start."""
        return self.size - len(self.running)

    @property
    def idle(self) -> bool:
        """Whether nothing runs and nothing waits to be stored."""
        return not (self.running or self._unstored or self._storing or self._arrived)

    def held_runs(self) -> tuple[UUID, ...]:
        """Runs whose leases are to be kept."""
        with self._lock:
            ended = [
                execution.run.id
                for execution, _ in (*self._unstored, *self._storing.values(), *self._arrived)
            ]
        return (*(execution.run.id for execution in self.running.values() if not execution.lost), *ended)

    def arrive(self, execution: Execution, ending: Ending) -> None:
        """An attempt has ended; called on the handlers' loop."""
        with self._lock:
            self._arrived.append((execution, ending))
        # Not at once: what ends in this turn of the loop goes into one write. Where a handler blocks the loop in the
        # rest of it, the pump finds this one when it polls.
        if not self._telling:
            self._telling = True
            asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        self._telling = False
        self._wake()

    def let_go(self, execution: Execution) -> None:
        """The loop turns on beside a handler that was given up; called on the handlers' loop."""
        with self._lock:
            self._let_go.append(execution)
        self._wake()

    def give_up(self, execution: Execution, ending: Ending) -> None:
        """The engine writes the outcome itself; the slot is free, whatever the handler still does."""
        self.stuck[execution.key] = execution
        self.running.pop(execution.key, None)
        execution.close()
        if not execution.lost:
            self._unstored.append((execution, ending))
        self._wake()

    def free_ended(self) -> None:
        """Free the slots of what has ended, and remember which outcomes are to be stored: not those of lost runs."""
        with self._lock:
            arrived = list(self._arrived)
            self._arrived.clear()
            for execution in self._let_go:
                self.stuck.pop(execution.key, None)
            self._let_go.clear()
        for execution, ending in arrived:
            key = execution.key
            self.running.pop(key, None)
            self.stuck.pop(key, None)
            execution.close()
            if not execution.lost and not execution.given_up:
                self._unstored.append((execution, ending))

    def take_unstored(self, most: int) -> list[Ended]:
        """Outcomes that go into a write now, at most so many; `stored` or `not_stored` says what became of them."""
        taken, self._unstored = self._unstored[:most], self._unstored[most:]
        for item in taken:
            self._storing[item[0].key] = item
        return taken

    def stored(self, items: Sequence[Ended]) -> None:
        """These outcomes are in the database, or refused by it for good."""
        for execution, _ in items:
            self._storing.pop(execution.key, None)
        self.finished += len(items)

    def not_stored(self, items: Sequence[Ended]) -> None:
        """The database did not take these; they are taken again, first."""
        for execution, _ in items:
            self._storing.pop(execution.key, None)
        self._unstored[:0] = items
