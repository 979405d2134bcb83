"""The worker that the console brings along: started again when it dies, and never left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import TimeoutError as StillWaiting
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jobdeck.cli.keeper import Keeper
from jobdeck.cli.output import say

if TYPE_CHECKING:
    from jobdeck.settings import Settings

_QUIET_SECONDS: Final = 2.0
_LOG_BYTES: Final = 5 * 1024 * 1024


class Companion:
    """`jobdeck runner` as a child. With `keep` it is left running at the end, and also when the console is killed."""

    def __init__(self, settings: Settings, log: Path, lock: int, *, keep: bool) -> None:
        self._settings = settings
        self._log = log
        self._lock = lock
        self._keep = keep
        # Nobody else holds the writing end: when this process is gone, however, the worker reads its end-of-file.
        self._read_end, self._write_end = os.pipe()
        self._keeper = Keeper(self._spawn, tell=self._note)

    def start(self) -> None:
        """Start the worker and watch over it."""
        self._keeper.start()

    def _open_log(self) -> int:
        if self._log.exists() and self._log.stat().st_size > _LOG_BYTES:
            self._log.replace(self._log.with_suffix(".log.1"))
        return os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def _note(self, line: str) -> None:
        """A line between those of the worker: the terminal belongs to the console."""
        with os.fdopen(self._open_log(), "a") as log:
            log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")

    def _spawn(self) -> subprocess.Popen[bytes]:
        # -P: nothing is imported from the working directory, which may belong to anybody.
        arguments = [sys.executable, "-P", "-m", "jobdeck", "runner"]
        if self._settings.config_file is not None:
            arguments += ["--config", str(self._settings.config_file)]
        if not self._keep:
            arguments += ["--stop-on-eof", str(self._read_end)]
        descriptor = self._open_log()
        try:
            return subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                pass_fds=[self._lock, self._read_end],
                # Ctrl-C in the terminal is for the console alone.
                start_new_session=True,
            )
        finally:
            os.close(descriptor)

    def stop(self) -> None:
        """Let the worker end in order, unless it is to be kept."""
        if self._keep:
            self._keeper.leave()
        else:
            self._drain()
        os.close(self._write_end)
        os.close(self._read_end)

    def _drain(self) -> None:
        self._keeper.stop()
        try:
            self._keeper.over.result(_QUIET_SECONDS)
            return
        except StillWaiting:
            say("waiting for running work to end; Ctrl-C gives it back at once")
        try:
            self._keeper.over.result()
        except KeyboardInterrupt:
            self._keeper.stop()
            self._keeper.over.result()
