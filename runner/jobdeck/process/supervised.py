"""A child process on an event loop, under the shim: it ends with its block, its task and its worker."""

from __future__ import annotations

import asyncio
import contextlib
import json
import marshal
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

from jobdeck.errors import JobdeckError
from jobdeck.process.launch import launch
from jobdeck.process.output import Output, OutputLine

# Between SIGTERM and SIGKILL for a child whose block is left while it runs (an error, a cancelled task).
_CLOSE_GRACE: Final = 2.0


class SupervisorLost(JobdeckError):
    """The supervisor of a child process was killed, so how the child ended is not known."""

    code = "supervisor_lost"


@dataclass(frozen=True, slots=True)
class ProcessExit:
    """How a child ended."""

    returncode: int | None
    """The exit code; negative: killed by that signal; None: not even SIGKILL ended it within seconds."""
    duration: float
    """Seconds from its start to its end."""
    leftover: int
    """How many of its processes withstood SIGKILL (they hang in the kernel or belong to another user)."""

    @property
    def signal(self) -> int | None:
        """The signal that killed it, or None."""
        return -self.returncode if self.returncode is not None and self.returncode < 0 else None

    def describe(self) -> str:
        """`exit code 3` or `killed by SIGKILL (signal 9)`."""
        if self.returncode is None:
            return "could not be killed"
        if self.signal is None:
            return f"exit code {self.returncode}"
        try:
            return f"killed by {signal.Signals(self.signal).name} (signal {self.signal})"
        except ValueError:
            return f"killed by signal {self.signal}"


class SupervisedProcess:
    """A child process that leaves nothing behind: `async with SupervisedProcess(argv, env=…) as process`.

    It has a session and process group of its own, reads `stdin` (None: nothing) and has exactly `env` as its
    environment. When it ends, all that it started is killed; likewise when the block is left, the task is
    cancelled or this process dies in any way. Entering raises OSError, as `subprocess` does, when it cannot
    be started.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: str | None = None,
        stdin: bytes | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        if not argv:
            raise ValueError("argv needs at least the program")
        self._argv = list(argv)
        self._cwd = cwd
        self._stdin = stdin
        self._pass_fds = list(pass_fds)
        self._plan = _plan(argv, env, cwd, self._pass_fds)
        self._planned = False
        self._received = b""
        self._errno: tuple[int, str] | None = None
        self._exit: ProcessExit | None = None
        self.pid: int | None = None
        """Process id of the child, which is the id of its group as well; None until it has started."""

    async def __aenter__(self) -> Self:
        self._start()
        try:
            # A shim that dies meanwhile is noticed by _on_gone.
            with contextlib.suppress(ConnectionError):
                await self._loop.sock_sendall(self._control, self._plan)
            self._planned = True
            await self._decided.wait()
            self._check_started()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    def lines(self) -> AsyncIterator[OutputLine]:
        """The lines of both streams as they come, each at most 8 KiB of text, until the child has ended.

        Take them: a child whose output nobody takes waits. To stop taking them discards the rest.
        """
        return self._output.lines()

    def terminate(self, grace: float) -> None:
        """SIGTERM now, SIGKILL after `grace` seconds. Returns at once; a second call can only shorten it."""
        self._command(f"term {grace}\n")

    def kill(self) -> None:
        """SIGKILL now, for all of it. Returns at once."""
        self._command("kill\n")

    async def wait(self) -> ProcessExit:
        """Until the child and all that it started have ended. Without `lines()` the output is discarded.

        Raises SupervisorLost when the shim was killed from outside.
        """
        if not self._output.claimed:
            self._output.discard()
        await self._gone.wait()
        if self._exit is None:
            raise SupervisorLost
        return self._exit

    def _start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._decided = asyncio.Event()
        self._gone = asyncio.Event()
        self._started_at = time.monotonic()
        launched = launch(self._stdin, self._pass_fds)
        self._control = launched.control
        self._output = Output({launched.stdout: "stdout", launched.stderr: "stderr"})
        self._loop.add_reader(self._control, self._on_status)
        # A thread collects the shim even when this loop is long closed.
        name = f"reaper-{launched.shim.pid}"
        threading.Thread(target=self._reap, args=(launched.shim.wait,), name=name, daemon=True).start()

    def _reap(self, wait: Any) -> None:
        wait()
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._on_gone)

    def _on_status(self) -> None:
        try:
            data = self._control.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._loop.remove_reader(self._control)
            return
        *lines, self._received = (self._received + data).split(b"\n")
        for line in lines:
            self._note(json.loads(line))

    def _note(self, status: dict[str, Any]) -> None:
        if "pid" in status:
            self.pid = status["pid"]
        elif "errno" in status:
            self._errno = (status["errno"], status["place"])
        else:
            duration = time.monotonic() - self._started_at
            self._exit = ProcessExit(status["returncode"], duration, status["leftover"])
        self._decided.set()

    def _on_gone(self) -> None:
        if self._gone.is_set() or self._control.fileno() < 0:
            self._gone.set()
            return
        self._on_status()
        if self._exit is None and self.pid is not None:
            with contextlib.suppress(OSError):
                os.killpg(self.pid, signal.SIGKILL)
        self._output.finish()
        self._gone.set()
        self._decided.set()

    def _check_started(self) -> None:
        if self._errno is not None:
            number, place = self._errno
            raise OSError(number, os.strerror(number), self._cwd if place == "cwd" else self._argv[0])
        if self.pid is None:
            raise SupervisorLost

    def _command(self, line: str) -> None:
        with contextlib.suppress(OSError):
            self._control.send(line.encode())

    async def _close(self) -> None:
        self._output.discard()
        if self._planned:
            self.terminate(_CLOSE_GRACE)
        else:
            # Half a plan is never carried out: the shim sees the end of its socket.
            self._release_control()
        try:
            await self._gone.wait()
        except asyncio.CancelledError:
            self.kill()
            raise
        finally:
            self._output.close()
            self._release_control()

    def _release_control(self) -> None:
        if self._control.fileno() >= 0:
            self._loop.remove_reader(self._control)
            self._control.close()


def _plan(argv: Sequence[str], env: Mapping[str, str], cwd: str | None, fds: list[int]) -> bytes:
    plan = marshal.dumps(
        (
            os.getpid(),
            [os.fsencode(part) for part in argv],
            {os.fsencode(name): os.fsencode(value) for name, value in env.items()},
            os.fsencode(cwd or ""),
            fds,
        )
    )
    return len(plan).to_bytes(8, "big") + plan
