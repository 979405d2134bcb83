"""The demo's other processes: the API and a worker. Both end with the demo, however it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from jobdeck.settings import Settings

_STOP_SECONDS = 10


@contextmanager
def api_server() -> Iterator[str]:
    """The API in a process of its own; gives its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "jobdeck.demo.api"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None  # noqa: S101  asked for above
        yield process.stdout.readline().strip()
    finally:
        _end(process)


@contextmanager
def worker(settings: Settings, *arguments: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`jobdeck runner` on the demo's database; its log goes to a private file."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "jobdeck", "runner", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment(settings),
            start_new_session=True,
        )
        try:
            yield process
        finally:
            process.terminate()
            _wait(process)


def environment(settings: Settings) -> Mapping[str, str]:
    """This process's environment, with the demo's settings in it."""
    return os.environ | {
        "JOBDECK_DATABASE_URL": settings.resolved_database_url,
        "JOBDECK_DATA_DIR": str(settings.resolved_data_dir),
        "JOBDECK_TEAM": settings.team,
        "JOBDECK_PROJECT": settings.project,
        "JOBDECK_HTTP__ALLOW": json.dumps(settings.http.allow),
        "JOBDECK_COMMAND__ENABLED": "true",
        "JOBDECK_RUNNER__SHUTDOWN_GRACE": "1s",
        # What a demo that was killed left running is taken over soon.
        "JOBDECK_RUNNER__LEASE": "6s",
    }


def _end(process: subprocess.Popen[str]) -> None:
    if process.stdin is not None:
        process.stdin.close()
    _wait(process)
    if process.stdout is not None:
        process.stdout.close()


def _wait(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
