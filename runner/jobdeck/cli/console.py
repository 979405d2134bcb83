"""Bare `jobdeck`: the console, with a worker beside it where the database is the embedded one."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from jobdeck.cli.call import Call
from jobdeck.cli.companion import Companion

if TYPE_CHECKING:
    from jobdeck.settings import Settings


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
    # The worker inherits the lock, so that it holds also while it outlives this process.
    lock = os.open(folder / "runner.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        yield
        return
    companion = Companion(settings, folder / "runner.log", lock, keep=keep)
    companion.start()
    try:
        yield
    finally:
        companion.stop()
        os.close(lock)
