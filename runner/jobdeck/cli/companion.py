"""The worker that the console brings along: started again when it dies, and never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jobdeck.cli.output import say

if TYPE_CHECKING:
    from jobdeck.settings import Settings

# Seconds between two starts: doubled each time it dies, up to half a minute.
_PAUSE_FIRST: Final = 1.0
_PAUSE_MAX: Final = 30.0
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
        self._ending = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._watch, name="jobdeck-companion", daemon=True)

    def start(self) -> None:
        """Start the worker and watch over it."""
        self._process = self._spawn()
        self._thread.start()

    def _watch(self) -> None:
        pause = _PAUSE_FIRST
        while self._process is not None:
            self._process.wait()
            if self._ending.wait(pause):
                return
            pause = min(pause * 2, _PAUSE_MAX)
            self._process = self._spawn()

    def _spawn(self) -> subprocess.Popen[bytes]:
        if self._log.exists() and self._log.stat().st_size > _LOG_BYTES:
            self._log.replace(self._log.with_suffix(".log.1"))
        descriptor = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        arguments = [sys.executable, "-m", "jobdeck", "runner"]
        if self._settings.config_file is not None:
            arguments += ["--config", str(self._settings.config_file)]
        if not self._keep:
            arguments += ["--stop-on-eof", str(self._read_end)]
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
        self._ending.set()
        process = self._process
        if process is not None and not self._keep:
            _drain(process)
        os.close(self._write_end)
        os.close(self._read_end)


def _drain(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_QUIET_SECONDS)
        return
    except subprocess.TimeoutExpired:
        say("waiting for running work to end; Ctrl-C gives it back at once")
    try:
        process.wait()
    except KeyboardInterrupt:
        process.send_signal(signal.SIGTERM)
        process.wait()
