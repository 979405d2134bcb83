"""Workers as processes of their own: `jobdeck runner` with a configuration file, and what can be done to them."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.hostclock import CLOCK_VARIABLE, HostClock
from tests.faults.killpoints import KILL_VARIABLE, KillPoint
from tests.faults.ledger import LEDGER_VARIABLE, Ledger
from tests.nursery import ROOT, Child, Nursery

SQLITE_VARIABLE = "JOBDECK_TEST_SQLITE"
"""Tells a process which version of SQLite it is to believe it has."""
# Seconds; far beyond what a worker needs to end on a loaded machine.
_PATIENCE = 60.0


@dataclass
class Worker:
    """One process. Whatever breaks it is written into the ledger first."""

    process: Child
    log: Path
    ledger: Ledger

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def said(self) -> str:
        """Its log so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def kill(self) -> None:
        """SIGKILL."""
        self._hit("kill", signal.SIGKILL)
        self.process.wait(_PATIENCE)

    def freeze(self) -> None:
        """SIGSTOP."""
        self._hit("freeze", signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self.process.send_signal(signal.SIGCONT)

    def terminate(self) -> None:
        """SIGTERM, which is no fault: the worker stops in order."""
        self.process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float = _PATIENCE) -> int:
        """Its exit code. Raises subprocess.TimeoutExpired."""
        return self.process.wait(seconds)

    def end(self) -> None:
        """Make sure that it is gone; no fault, for the case is over."""
        if self.alive:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait(_PATIENCE)

    def _hit(self, fault: str, number: signal.Signals) -> None:
        self.ledger.fault(fault, self.pid)
        self.process.send_signal(number)


@dataclass
class Workers:
    """All workers of a case. `settings` are those of the configuration file, nested as there."""

    folder: Path
    ledger: Ledger
    nursery: Nursery
    settings: Mapping[str, Any]
    started: list[Worker] = field(default_factory=list)

    def start(
        self,
        *arguments: str,
        settings: Mapping[str, Any] | None = None,
        kill: KillPoint | None = None,
        clock: HostClock | None = None,
        sqlite: str | None = None,
        command: str = "runner",
    ) -> Worker:
        """`jobdeck runner ARGUMENTS`, or another command.

        With a kill point in it, on a host whose clock is its own, or as if linked with this version of SQLite.

        `settings` go over those of the case, section by section.
        """
        config = self.config(settings or {})
        extra = _extra(kill, clock, sqlite)
        program = "tests.faults.launch" if extra else "jobdeck"
        return self._spawn(extra, program, command, "--config", str(config), *arguments)

    def enqueuer(
        self,
        name: str,
        count: int,
        queue: str = "default",
        *,
        delay: float = 0.0,
        kill: KillPoint | None = None,
        clock: HostClock | None = None,
    ) -> Worker:
        """A process that asks for `count` runs, due after `delay` seconds; see `tests.faults.enqueuer`."""
        arguments = (str(self.config({})), name, str(count), queue, str(delay))
        return self._spawn(_extra(kill, clock), "tests.faults.enqueuer", *arguments)

    def asker(self, gate: Path, count: int, **asked: Any) -> Worker:
        """A process that asks for the same run `count` times as soon as `gate` can be locked; see its module."""
        arguments = (str(self.config({})), str(gate), str(count), json.dumps(asked))
        return self._spawn({}, "tests.faults.asker", *arguments)

    def config(self, settings: Mapping[str, Any]) -> Path:
        """A configuration file of its own: the case's settings with these over them."""
        path = self.folder / f"process-{len(self.started)}.toml"
        path.write_text(as_toml(merged(self.settings, settings)))
        path.chmod(0o600)
        return path

    def _spawn(self, extra: dict[str, str], module: str, *arguments: str) -> Worker:
        log = self.folder / f"process-{len(self.started)}.log"
        environment = self.environment() | extra
        process = self.nursery.start(module, arguments, environment=environment, folder=self.folder, log=log)
        worker = Worker(process, log, self.ledger)
        self.started.append(worker)
        return worker

    @property
    def alive(self) -> list[Worker]:
        """Those whose process has not ended."""
        return [worker for worker in self.started if worker.alive]

    def environment(self) -> dict[str, str]:
        """What a process of the case finds: this checkout, the ledger, no setting of jobdeck's."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("JOBDECK_")}
        return kept | {LEDGER_VARIABLE: str(self.ledger.path), "PYTHONPATH": str(ROOT)}

    def end(self) -> None:
        """End them all, by their ids."""
        for worker in self.started:
            worker.end()


def _extra(kill: KillPoint | None, clock: HostClock | None, sqlite: str | None = None) -> dict[str, str]:
    """What the launcher is told."""
    given = {
        KILL_VARIABLE: None if kill is None else str(kill),
        CLOCK_VARIABLE: None if clock is None else str(clock.path),
        SQLITE_VARIABLE: sqlite,
    }
    return {name: value for name, value in given.items() if value is not None}


def merged(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    """`high` over `low`, section by section."""
    found = dict(low)
    for key, value in high.items():
        below = found.get(key)
        found[key] = (
            merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
        )
    return found


def as_toml(settings: Mapping[str, Any], within: str = "") -> str:
    """A configuration file: plain keys first, then one table for each mapping. JSON's scalars are TOML's as well."""
    plain = {key: value for key, value in settings.items() if not isinstance(value, Mapping)}
    lines = [f"{key} = {json.dumps(value)}" for key, value in plain.items()]
    for name, table in settings.items():
        if isinstance(table, Mapping):
            lines += [f"\n[{within}{name}]", as_toml(table, f"{within}{name}.").rstrip("\n")]
    return "\n".join(lines) + "\n"
