"""How a drain is measured: by what a program does, not by what it says."""

import sys
from pathlib import Path

import pytest

from bench.drain import Load, drain
from bench.process import MeasurementError, Program, environment

# Starts so many handlers, as a worker would, and says that they have ended by a file.
_WORKER = """
import pathlib, signal, sys
from bench.marks import mark
for number in range(int(sys.argv[1])):
    mark(number)
pathlib.Path(sys.argv[2]).touch()
signal.pause()
"""


def worker(starts: int, ended: Path) -> Program:
    """A program that marks `starts` starts, makes the file `ended` and waits to be stopped."""
    return Program([sys.executable, "-c", _WORKER, str(starts), str(ended)], environment())


def test_a_drain_is_over_when_the_storage_says_so(tmp_path: Path) -> None:
    """The rate follows from the number of runs, and a handler that started twice is counted."""
    ended = tmp_path / "ended"
    found = drain([worker(1_001, ended)], Load(1_000, ended.exists), tmp_path)
    assert found.per_second > 0
    assert found.again == 1
    assert found.shares == (1.0,)
    assert found.rss_mib > 1


def test_the_smallest_share_comes_first(tmp_path: Path) -> None:
    """A worker that got nothing has no share, rather than being left out."""
    files = [tmp_path / name for name in ("a", "b", "c")]
    programs = [worker(starts, file) for starts, file in zip((300, 100, 0), files, strict=True)]
    load = Load(400, lambda: all(file.exists() for file in files))
    assert drain(programs, load, tmp_path).shares == (0.0, 0.25, 0.75)


def test_a_worker_that_dies_is_an_error_with_its_words(tmp_path: Path) -> None:
    """A measurement that cannot end does not hang."""
    program = Program([sys.executable, "-c", "raise SystemExit('no such table')"], environment())
    with pytest.raises(MeasurementError, match="no such table"):
        drain([program], Load(1, lambda: True), tmp_path)
