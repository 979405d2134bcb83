"""Bare `jobdeck`: the console, with a worker beside it where the database is the embedded one."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from jobdeck.cli.call import Call
from jobdeck.cli.output import say

if TYPE_CHECKING:
    from jobdeck.settings import Settings

_STOP_SECONDS = 40


def open_console(call: Call, *, with_runner: bool, keep_runner: bool, filter_text: str | None) -> int:
    """Run the console to its end; the exit code. Raises ConfigError where there is no terminal."""
    from jobdeck.errors import ConfigError
    from jobdeck.plugins import load_console

    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ConfigError("the console needs a terminal; the same with commands: jobdeck --help")
    settings = call.settings
    console = load_console()
    if not (with_runner and settings.is_embedded):
        return console(settings, filter_text=filter_text)
    with worker_beside(settings, keep=keep_runner):
        return console(settings, filter_text=filter_text)


@contextlib.contextmanager
def worker_beside(settings: Settings, *, keep: bool) -> Iterator[None]:
    """`jobdeck runner` on the embedded database, at most one per file; drained at the end unless it is kept."""
    folder = settings.make_data_dir()
    # The worker holds the lock as long as it lives, also when it outlives this process.
    lock = os.open(folder / "runner.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        yield
        return
    process = _start(settings, folder / "runner.log", lock)
    os.close(lock)
    try:
        yield
    finally:
        if not keep:
            _stop(process)


def _start(settings: Settings, log: Path, lock: int) -> subprocess.Popen[bytes]:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    arguments = [sys.executable, "-m", "jobdeck", "runner"]
    if settings.config_file is not None:
        arguments += ["--config", str(settings.config_file)]
    try:
        return subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            pass_fds=[lock],
            # Ctrl-C in the terminal is for the console alone.
            start_new_session=True,
        )
    finally:
        os.close(descriptor)


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(2)
    except subprocess.TimeoutExpired:
        say("waiting for running work to end; Ctrl-C gives it back at once")
        try:
            process.wait(_STOP_SECONDS)
        except (KeyboardInterrupt, subprocess.TimeoutExpired):
            process.send_signal(signal.SIGTERM)
            process.wait()
