"""Draining: N runs wait, the worker starts, and its own storage says when all N have ended.

Counted from the first start of a handler, so that the start of the process is left out, to the moment the storage
says so: the same for jobdeck and for the peers.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.marks import VARIABLE, Marks
from bench.process import MeasurementError, Program, Running, running

_START_SECONDS = 60.0
_END_SECONDS = 30.0
_POLL = 0.002


@dataclass(frozen=True, slots=True)
class Drained:
    """One drain."""

    per_second: float
    cpu_us: float
    """User and system time of the worker per run; the time of a database server is not in it."""
    rss_mib: float
    again: int
    """Handlers that started once more for the same run."""
    shares: tuple[float, ...]
    """Which part of the starts each worker process had, the smallest first."""


@dataclass(frozen=True, slots=True)
class Load:
    """What is to be drained."""

    count: int
    ended: Callable[[], bool]
    """Whether the storage says that all of them have ended."""
    release: Callable[[], None] | None = None
    """Makes the runs due, once the workers are `ready`; without it they are due from the beginning."""
    ready: Callable[[], bool] | None = None
    seconds: float = 120.0
    """Longest time to wait for the last start."""


def drain(programs: list[Program], load: Load, folder: Path) -> Drained:
    """Start these workers on the load. Raises MeasurementError where they do not get through."""
    marks = Marks(folder / "marks")
    with ExitStack() as stack:
        workers = [
            stack.enter_context(
                running(
                    program.with_environment({VARIABLE: str(marks.path)}), folder / f"worker-{number}.log"
                )
            )
            for number, program in enumerate(programs)
        ]
        if load.ready is not None:
            _wait(load.ready, _START_SECONDS, "the workers did not get ready", workers)
        if load.release is not None:
            load.release()
        _wait(lambda: marks.count() > 0, _START_SECONDS, "no handler started", workers)
        cpu = _cpu(workers)
        _wait(lambda: marks.count() >= load.count, load.seconds, "not every handler started", workers)
        _wait(load.ended, _END_SECONDS, "not every run ended", workers)
        ended_ns = time.monotonic_ns()
        cpu = _cpu(workers) - cpu
        rss = sum(worker.rss_mib("VmHWM") for worker in workers)
    starts = marks.read()
    seconds = (ended_ns - starts[0].started_ns) / 1e9
    by_process = [sum(mark.process == pid for mark in starts) for pid in {mark.process for mark in starts}]
    idle = [0] * (len(programs) - len(by_process))
    return Drained(
        per_second=load.count / seconds,
        cpu_us=cpu / load.count * 1e6,
        rss_mib=rss,
        again=len(starts) - load.count,
        shares=tuple(sorted(part / len(starts) for part in by_process + idle)),
    )


def _cpu(workers: list[Running]) -> float:
    return sum(worker.cpu_seconds() for worker in workers)


def _wait(holds: Callable[[], bool], seconds: float, otherwise: str, workers: list[Running]) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        for worker in workers:
            worker.check()
        if time.monotonic() > deadline:
            raise MeasurementError(f"{otherwise} within {seconds:g} s; a worker said: {workers[0].said()}")
        time.sleep(_POLL)
