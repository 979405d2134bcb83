"""The ledger: what really happened, written outside the database by whoever saw it.

One line of JSON per fact, appended with O_APPEND and forced to the disk before anybody goes on, by any number of
processes. `at` is the machine's monotonic clock, which all processes of one machine share; `wall` its wall clock.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any
from uuid import UUID

LEDGER_VARIABLE = "JOBDECK_TEST_LEDGER"
"""Names the ledger's file to the processes of a case."""


class Kind(StrEnum):
    """What a line says."""

    UNKNOWN = "U"
    """A run was asked for under this key; unless an E follows, nobody knows whether it was stored."""
    ENQUEUED = "E"
    """The client was given the id of a run."""
    EFFECT = "X"
    """A handler did its work."""
    FAULT = "F"
    """A fault was injected."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line. Which fields are set depends on the kind; times are seconds."""

    kind: Kind
    at: float = field(default_factory=time.monotonic)
    wall: float = field(default_factory=time.time)
    pid: int | None = None
    """The process that wrote an effect, or that a fault hit; None for a fault that hit all."""
    key: str | None = None
    """What the enqueuer calls the run; it is in the run's params."""
    run: str | None = None
    """The run's id, 32 hexadecimal digits."""
    attempt: int | None = None
    fence: int | None = None
    start: float | None = None
    """When the handler began, by the monotonic clock."""
    end: float | None = None
    fault: str | None = None
    """What was done, such as `kill`, `freeze` or the name of a kill point."""


class Ledger:
    """The file of one case."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, *entries: Entry) -> None:
        """Append lines; on return they are on the disk."""
        text = "".join(f"{json.dumps(_facts(entry))}\n" for entry in entries)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, text.encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def asked(self, *keys: str) -> None:
        """Runs are about to be asked for."""
        self.write(*(Entry(Kind.UNKNOWN, key=key) for key in keys))

    def enqueued(self, runs: Mapping[str, UUID]) -> None:
        """The ids of the runs asked for under these keys have come back."""
        self.write(*(Entry(Kind.ENQUEUED, key=key, run=run.hex) for key, run in runs.items()))

    def fault(self, fault: str, pid: int | None = None) -> None:
        """Something is about to be broken; without a pid it hits every worker."""
        self.write(Entry(Kind.FAULT, fault=fault, pid=pid))

    def read(self) -> list[Entry]:
        """All lines so far; of a line that is being written, nothing."""
        if not self.path.exists():
            return []
        text = self.path.read_text()
        whole = text[: text.rfind("\n") + 1]
        return [_entry(json.loads(line)) for line in whole.splitlines()]


def ledger_of_environment() -> Ledger:
    """The ledger of the case this process belongs to. Raises KeyError outside one."""
    return Ledger(Path(os.environ[LEDGER_VARIABLE]))


def of_kind(entries: Iterable[Entry], kind: Kind) -> list[Entry]:
    """The lines of one kind, in the order they were written."""
    return [entry for entry in entries if entry.kind is kind]


def _facts(entry: Entry) -> dict[str, Any]:
    return {name: value for name, value in asdict(entry).items() if value is not None}


def _entry(facts: dict[str, Any]) -> Entry:
    return Entry(**(facts | {"kind": Kind(facts["kind"])}))
