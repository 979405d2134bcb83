"""jobdeck as its users run it: the command in a process of its own, workers that can be killed."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import typer.main

from jobdeck.cli.main import build, run
from tests.nursery import Child, Nursery

# Generous: the machine may be shared, and a test that waits longer has found something.
PATIENCE = 60.0
LEASE = "3s"
_PAUSE = 0.05


@cache
def command_line() -> Any:
    """What `run` takes, made once: to make it takes longer than most commands."""
    return typer.main.get_command(build())


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    returncode: int
    stdout: str
    stderr: str


@dataclass
class Deck:
    """One installation of jobdeck: a database, a data folder, an environment."""

    url: str
    folder: Path
    nursery: Nursery | None = None
    """Starts its workers; without one each is a new interpreter."""
    workers: list[subprocess.Popen[bytes] | Child] = field(default_factory=list)
    settings: dict[str, str] = field(default_factory=dict)
    """Variables of the environment that a test adds or changes."""

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("JOBDECK_")}
        return kept | {
            "JOBDECK_DATABASE_URL": self.url,
            "JOBDECK_DATA_DIR": str(self.folder),
            "JOBDECK_HTTP__ALLOW": "127.0.0.1/32",
            "JOBDECK_COMMAND__ENABLED": "true",
            "JOBDECK_RUNNER__LEASE": LEASE,
            "JOBDECK_RUNNER__SHUTDOWN_GRACE": "2s",
            "COLUMNS": "200",
            **self.settings,
        }

    def run(self, *arguments: str, stdin: str = "") -> Done:
        """`jobdeck …`, to its end, inside this process: a new one would spend its time on imports."""
        out, err = io.StringIO(), io.StringIO()
        fed = io.TextIOWrapper(io.BytesIO(stdin.encode()))
        with (
            mock.patch.dict(os.environ, self.environment, clear=True),
            mock.patch.object(sys, "stdin", fed),
            contextlib.chdir(self.folder),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            code = run(command_line(), list(arguments))
        return Done(code, out.getvalue(), err.getvalue())

    def spawn(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`jobdeck …`, to its end, as a process of its own."""
        return subprocess.run(
            [sys.executable, "-m", "jobdeck", *arguments],
            env=self.environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    def json(self, *arguments: str, stdin: str = "") -> Any:
        """The JSON a command prints; the command must succeed."""
        done = self.run(*arguments, "--json", stdin=stdin)
        assert done.returncode == 0, (arguments, done.stderr)
        return json.loads(done.stdout)

    def worker(self, *arguments: str) -> subprocess.Popen[bytes] | Child:
        """`jobdeck runner …`; its log is in a file beside the database."""
        if self.nursery is None:
            return self.new_worker(*arguments)
        log = self.folder / f"worker-{len(self.workers)}.log"
        child = self.nursery.start(
            "jobdeck", ["runner", *arguments], environment=self.environment, folder=self.folder, log=log
        )
        self.workers.append(child)
        return child

    def new_worker(self, *arguments: str, prefix: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        """As `worker`, as a new interpreter, with `prefix` before its command line."""
        with (self.folder / f"worker-{len(self.workers)}.log").open("wb") as log:
            process = subprocess.Popen(
                [*prefix, sys.executable, "-m", "jobdeck", "runner", *arguments],
                env=self.environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.workers.append(process)
        return process

    def log_of(self, index: int) -> str:
        """What worker number `index` has said."""
        return (self.folder / f"worker-{index}.log").read_text()

    def show(self, run_id: str) -> dict[str, Any]:
        """The run as `runs show --json` prints it."""
        found: dict[str, Any] = self.json("runs", "show", run_id)
        return found

    def until(self, holds: Callable[[], Any]) -> Any:
        """Ask again until something is true; the pause leaves the processor to those that are to make it true."""
        deadline = time.monotonic() + PATIENCE
        while not (found := holds()):
            logs = [self.log_of(index)[-1_000:] for index in range(len(self.workers))]
            assert time.monotonic() < deadline, ("waited too long", logs)
            time.sleep(_PAUSE)
        return found

    def rows(self, table: str) -> list[dict[str, Any]]:
        """The rows of a table in the project's data file."""
        path = self.folder / "projects" / "default" / "default.db"
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
            connection.row_factory = sqlite3.Row
            rows = [dict(row) for row in connection.execute(f'SELECT * FROM "{table}"')]
        connection.close()
        return rows

    def stop_workers(self) -> None:
        """End what is left, by its id."""
        for process in self.workers:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()


@contextmanager
def deck_at(url: str, folder: Path, nursery: Nursery) -> Iterator[Deck]:
    """A deck whose workers end with the block."""
    made = Deck(url, folder, nursery)
    try:
        yield made
    finally:
        made.stop_workers()
