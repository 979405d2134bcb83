"""Which attempts this worker holds: those whose handler runs and those whose outcome waits to be stored."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from uuid import UUID

from jobdeck.engine.execution import Execution
from jobdeck.verdict import Ending


class Slots:
    """`running` is touched on the engine's loop alone; endings arrive from the handlers' loop."""

    def __init__(self, size: int, wake: Callable[[], None]) -> None:
        self.size = size
        self.running: dict[tuple[UUID, int], Execution] = {}
        self.stuck: dict[tuple[UUID, int], Execution] = {}
        """Given up, and still in the way of others as far as is known: its thread runs or its loop has not answered."""
        self.finished = 0
        self._wake = wake
        self._arrived: deque[tuple[Execution, Ending]] = deque()
        self._let_go: deque[Execution] = deque()
        self._unstored: deque[tuple[Execution, Ending]] = deque()
        self._lock = threading.Lock()
        self._woken = False

    @property
    def free(self) -> int:
        """How many more runs may start."""
        return self.size - len(self.running)

    @property
    def idle(self) -> bool:
        """Whether nothing runs and nothing waits to be stored."""
        return not self.running and not self._unstored and not self._arrived

    def held_runs(self) -> tuple[UUID, ...]:
        """Runs whose leases are to be kept."""
        with self._lock:
            ended = [execution.run.id for execution, _ in (*self._unstored, *self._arrived)]
        return (*(execution.run.id for execution in self.running.values() if not execution.lost), *ended)

    def arrive(self, execution: Execution, ending: Ending) -> None:
        """An attempt has ended; called on the handlers' loop. The engine is woken once per batch."""
        with self._lock:
            self._arrived.append((execution, ending))
        self._wake_once()

    def let_go(self, execution: Execution) -> None:
        """The loop turns on beside a handler that was given up; called on the handlers' loop."""
        with self._lock:
            self._let_go.append(execution)
        self._wake_once()

    def _wake_once(self) -> None:
        with self._lock:
            if self._woken:
                return
            self._woken = True
        self._wake()

    def give_up(self, execution: Execution, ending: Ending) -> None:
        """The engine writes the outcome itself; the slot is free, whatever the handler still does."""
        self.stuck[execution.key] = execution
        self.running.pop(execution.key, None)
        execution.close()
        if not execution.lost:
            self._unstored.append((execution, ending))
        self._wake()

    def take_ended(self) -> list[tuple[Execution, Ending]]:
        """Attempts whose outcome is to be stored now. Lost ones only free their slot."""
        with self._lock:
            arrived = list(self._arrived)
            self._arrived.clear()
            for execution in self._let_go:
                self.stuck.pop(execution.key, None)
            self._let_go.clear()
            self._woken = False
        for execution, ending in arrived:
            self.running.pop(execution.key, None)
            self.stuck.pop(execution.key, None)
            execution.close()
            if not execution.lost and not execution.given_up:
                self._unstored.append((execution, ending))
        return list(self._unstored)

    def stored(self, items: list[tuple[Execution, Ending]]) -> None:
        """These outcomes are in the database, or refused by it for good."""
        done = {execution.key for execution, _ in items}
        self._unstored = deque(item for item in self._unstored if item[0].key not in done)
        self.finished += len(items)
