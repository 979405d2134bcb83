"""The worker that the console brings along."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

PATIENCE = 60.0

CONSOLE = """
import sys
from jobdeck.cli.console import worker_beside
from jobdeck.settings import load_settings
with worker_beside(load_settings(), keep=False):
    print("open", flush=True)
    sys.stdin.read()
"""


def started(folder: Path, **settings: str) -> subprocess.Popen[str]:
    """A console without a screen, in a process of its own, with its worker; `settings` are variables."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JOBDECK_")}
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", CONSOLE],
        env=environment | {"JOBDECK_DATA_DIR": str(folder)} | settings,
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    return process


def workers_named(folder: Path, count: int) -> list[int]:
    """The process ids that the worker's log names, once there are `count`."""
    log = folder / "runner.log"
    deadline = time.monotonic() + PATIENCE
    while True:
        text = log.read_text() if log.exists() else ""
        found = [
            int(line.partition(" takes ")[0].rpartition(":")[2])
            for line in text.splitlines()
            if " takes " in line
        ]
        if len(found) >= count:
            return found
        assert time.monotonic() < deadline, text


def ended(pid: int) -> bool:
    """Whether the process ends; waits for it by a descriptor of the process."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    with os.fdopen(descriptor):
        return bool(select.select([descriptor], [], [], PATIENCE)[0])


def test_a_worker_that_dies_is_started_again_and_ends_with_the_console(tmp_path: Path) -> None:
    """kill -9 of the worker: a new one comes; the end of the console ends it in order."""
    console = started(tmp_path)
    first = workers_named(tmp_path, 1)[0]
    os.kill(first, signal.SIGKILL)
    second = workers_named(tmp_path, 2)[1]
    assert second != first
    console.communicate("", timeout=PATIENCE)
    assert ended(second)


def test_a_killed_console_leaves_no_worker_and_a_second_one_brings_none(tmp_path: Path) -> None:
    """One worker per database file; it reads the end of its pipe and stops when the console is killed."""
    console = started(tmp_path)
    first = workers_named(tmp_path, 1)[0]
    other = started(tmp_path)
    other.communicate("", timeout=PATIENCE)
    assert len(workers_named(tmp_path, 1)) == 1
    console.kill()
    console.communicate()
    assert ended(first)


def test_a_worker_imports_nothing_from_the_working_directory(tmp_path: Path) -> None:
    """Opening the console in a folder of somebody else's does not run what lies there."""
    (tmp_path / "typer.py").write_text("raise SystemExit('a stranger was here')")
    console = started(tmp_path)
    assert workers_named(tmp_path, 1)
    console.communicate("", timeout=PATIENCE)


def test_the_worker_of_a_console_may_be_several(tmp_path: Path) -> None:
    """With `processes` in the configuration it is a parent; it and its workers end with a console that is killed."""
    console = started(tmp_path, JOBDECK_RUNNER__PROCESSES="2")
    pids = workers_named(tmp_path, 2)
    console.kill()
    console.communicate()
    assert all(ended(pid) for pid in pids)
    log = (tmp_path / "runner.log").read_text()
    assert "watches over 2 workers" in log
    assert "Traceback" not in log
