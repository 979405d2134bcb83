"""Starts processes of jobdeck quickly: everything they import is imported once, then each is a fork of that.

The imports are nine tenths of what a worker's start costs, and the tests start hundreds. A child is a process like
any other: its own environment, folder, standard streams and exit code; it runs a module as `python -m` does.

`python -m tests.nursery` reads one request per line and writes one answer per line; with the end of its
input it kills what it has started and ends, so that nothing outlives the tests.
"""

from __future__ import annotations

import json
import os
import runpy
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import pytest

_PRELOADED = (
    "jobdeck.cli.main",
    "jobdeck.cli.runner",
    "jobdeck.bootstrap",
    "jobdeck.engine.worker",
    "jobdeck.store.sqlite.database",
    "jobdeck.store.postgres.database",
    "jobdeck_handlers.command",
    "jobdeck_handlers.export",
    "jobdeck_handlers.http",
    "jobdeck_handlers.http_sync",
    "jobdeck_handlers.llm_batch",
    "jobdeck_handlers.noop",
    "jobdeck_handlers.sitemap_check",
    "jobdeck_handlers.sleep",
    "tests.faults.handlers",
)
ROOT = Path(__file__).parents[1]


class Child:
    """One process started by a nursery."""

    def __init__(self, nursery: Nursery, pid: int) -> None:
        self._nursery = nursery
        self._ended = os.pidfd_open(pid)
        self._lock = threading.Lock()
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Its exit code; None while it is there. Negative where a signal has ended it."""
        with suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code. Raises subprocess.TimeoutExpired."""
        if self.returncode is None and not select.select([self._ended], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
        # Several threads may have waited; one of them learns the code.
        with self._lock:
            if self.returncode is None:
                self.returncode = self._nursery.ask(reap=self.pid)
        return self.returncode

    def __del__(self) -> None:
        os.close(self._ended)

    def send_signal(self, number: int) -> None:
        """Signal it, if it is still there."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


class Nursery:
    """The other end of the program, for the process of the tests; used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.nursery"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            start_new_session=True,  # a Ctrl-C is for the tests, which then end the children in order
        )

    def start(
        self,
        module: str,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str],
        folder: Path,
        log: Path,
    ) -> Child:
        """`python -m module arguments` in `folder`, with what it says in `log`."""
        request = {
            "module": module,
            "arguments": list(arguments),
            "environment": dict(environment),
            "folder": str(folder),
            "log": str(log),
        }
        return Child(self, self.ask(start=request))

    def ask(self, **request: Any) -> int:
        """One request, one answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            return int(self._process.stdout.readline())

    def close(self) -> None:
        """End it, and whatever it has started that is still there."""
        self._process.communicate()


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """What starts the processes of all tests."""
    nursery = Nursery()
    yield nursery
    nursery.close()


def _serve() -> dict[str, Any] | None:
    """Answer requests until there are none; in a child, what it is to become."""
    children: set[int] = set()
    with os.fdopen(os.dup(0), "rb", buffering=0) as requests, os.fdopen(os.dup(1), "w") as answers:
        while line := requests.readline():
            request: dict[str, Any] = json.loads(line)
            if "start" in request:
                answer = os.fork()
                if answer == 0:
                    wanted: dict[str, Any] = request["start"]
                    return wanted
                children.add(answer)
            else:
                _, status = os.waitpid(request["reap"], 0)
                answer = os.waitstatus_to_exitcode(status)
                children.discard(request["reap"])
            answers.write(f"{answer}\n")
            answers.flush()
    for pid in children:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return None


def _become(
    module: str, arguments: list[str], environment: dict[str, str], folder: str, log: str
) -> NoReturn:
    """Turn a fork into the process that was asked for."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.closerange(3, 64)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    # What an interpreter makes of its command line and of its environment before it runs anything.
    sys.path[:1] = [folder, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    sys.orig_argv = [sys.executable, "-m", module, *arguments]
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    sys.exit(0)


if __name__ == "__main__":
    for name in _PRELOADED:
        import_module(name)
    if (child := _serve()) is not None:
        _become(**child)
