"""Processes under measurement: started, looked at from outside by /proc, and stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
_TICKS = os.sysconf("SC_CLK_TCK")
_STOP_SECONDS = 15
_CHILD_SECONDS = 300


class MeasurementError(Exception):
    """Something under measurement did not do what it was started for."""


@dataclass(frozen=True, slots=True)
class Program:
    """A command and its environment."""

    command: Sequence[str]
    environment: Mapping[str, str]
    wraps: bool = False
    """Whether it only starts the one that is meant, as a sampler does."""

    def with_environment(self, more: Mapping[str, str]) -> Program:
        """The same with more variables."""
        return replace(self, environment=dict(self.environment) | dict(more))


def environment(**more: str) -> dict[str, str]:
    """This process's environment without settings of jobdeck and of Python, with this checkout importable.

    Python's own would make a difference: without bytecode files every worker compiles what it imports, and keeps 7 MiB
    more.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("JOBDECK_", "PYTHON"))}
    return kept | {"PYTHONPATH": str(ROOT)} | more


def answer(program: Program, seconds: float = _CHILD_SECONDS) -> Any:
    """Run a program to its end; the last line it prints is its answer, in JSON. Raises MeasurementError."""
    try:
        done = subprocess.run(
            program.command,
            env=dict(program.environment),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise MeasurementError(f"{_named(program)} took longer than {seconds:g} s") from None
    if done.returncode != 0 or not done.stdout.strip():
        raise MeasurementError(f"{_named(program)} failed: {done.stderr[-2000:] or done.stdout[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _named(program: Program) -> str:
    return " ".join(Path(part).name for part in program.command[:6])


class Running:
    """A process and what it has started."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, wraps: bool) -> None:
        self._process = process
        self._log = log
        self._wraps = wraps

    def family(self) -> list[int]:
        """Its process id and those of all its descendants; without the wrapper, if it has one."""
        found, todo = [], _children(self._process.pid) if self._wraps else [self._process.pid]
        while todo:
            pid = todo.pop()
            found.append(pid)
            todo += _children(pid)
        return found

    def cpu_seconds(self) -> float:
        """User and system time of the family until now, in ticks of 10 ms."""
        return sum(map(_cpu_seconds, self.family()))

    def rss_mib(self, field: str = "VmRSS") -> float:
        """Resident memory of the family; `VmHWM` gives the highest it ever was."""
        return sum(_status_kib(pid, field) for pid in self.family()) / 1024

    def check(self) -> None:
        """Raise MeasurementError where it has ended by itself."""
        if self._process.poll() is not None:
            raise MeasurementError(f"the process ended with {self._process.returncode}: {self.said()}")

    def said(self) -> str:
        """The end of what it wrote."""
        return self._log.read_text(errors="replace")[-2000:]

    def stop(self) -> None:
        """Ask it to stop; after a while make it."""
        if self._process.poll() is None:
            _signal(self.family()[:1], signal.SIGTERM)
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            _signal([self._process.pid, *self.family()], signal.SIGKILL)
            self._process.wait()


@contextmanager
def running(program: Program, log: Path) -> Iterator[Running]:
    """The program at work; stopped at the end."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            program.command,
            env=dict(program.environment),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    found = Running(process, log, program.wraps)
    try:
        yield found
    finally:
        found.stop()


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += map(int, children.read_text().split())
    return found


def _signal(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _cpu_seconds(pid: int) -> float:
    try:
        # The name of a program may hold anything, so count from the parenthesis behind it.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _status_kib(pid: int, field: str) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1])
    return 0
