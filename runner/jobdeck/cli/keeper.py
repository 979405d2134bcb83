"""A worker process that is kept: started again when it dies, after a pause that grows with every death."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final

# Seconds between two starts: doubled each time it dies, up to half a minute. One that had worked for a minute
# begins again at the first pause.
_PAUSE_FIRST: Final = 1.0
_PAUSE_MAX: Final = 30.0
_SETTLED: Final = 60.0


def dies_always(_code: int) -> bool:
    """For a worker that is to work until it is told to stop: whatever its exit code, another one follows."""
    return False


class Keeper:
    """Keeps one child process. `stop` may be called from any thread, and again."""

    def __init__(
        self,
        spawn: Callable[[], subprocess.Popen[bytes]],
        *,
        tell: Callable[[str], None],
        is_done: Callable[[int], bool] = dies_always,
    ) -> None:
        """`tell` is given a line about each death; `is_done(exit code)` says that the child has done its work."""
        self._spawn = spawn
        self._tell = tell
        self._is_done = is_done
        self._process: subprocess.Popen[bytes] | None = None
        self._ending = threading.Event()
        # Between the look at `_ending` and the start of another child nobody may ask to stop.
        self._starting = threading.Lock()
        self.over: Future[int] = Future()
        """The exit code of the last child, once there will be no other; negative: the signal that killed it."""

    def start(self) -> None:
        """Start the first child and keep it from now on. Raises OSError."""
        self._process = self._spawn()
        threading.Thread(target=self._keep, name="jobdeck-keeper", daemon=True).start()

    def leave(self) -> None:
        """Let the child live, and start no other."""
        with self._starting:
            self._ending.set()

    def stop(self) -> None:
        """Ask the child to stop in order, a second time to stop now, and start no other."""
        self.leave()
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the child whatever it does, and start no other."""
        self.leave()
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def _keep(self) -> None:
        pause, code = _PAUSE_FIRST, 0
        while True:
            began = time.monotonic()
            if self._process is not None:
                code = self._process.wait()
            if self._ending.is_set() or self._is_done(code):
                break
            lived = time.monotonic() - began
            pause = _PAUSE_FIRST if lived >= _SETTLED else pause
            self._tell(f"{self._death(code)} after {lived:.0f} s; another one starts in {pause:g} s")
            if self._ending.wait(pause):
                break
            pause = min(pause * 2, _PAUSE_MAX)
            self._start_again()
        self.over.set_result(code)

    def _death(self, code: int) -> str:
        if self._process is None:
            return "no worker process"
        how = (
            f"ended with exit code {code}"
            if code >= 0
            else f"died of signal {-code} ({signal.strsignal(-code)})"
        )
        return f"worker process {self._process.pid} {how}"

    def _start_again(self) -> None:
        with self._starting:
            if self._ending.is_set():
                return
            try:
                self._process = self._spawn()
            except OSError as error:
                # The machine has no process or file left for it now; that is a death like another.
                self._process = None
                self._tell(f"a worker process cannot be started: {error}")
