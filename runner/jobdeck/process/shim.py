"""The supervisor of one child process, and the reason why none outlives its worker.

A worker starts one per child, by path: `python -I -S shim.py FD`. FD is a socket to the worker: over it come
the plan (what to run) and then `term SECONDS` or `kill`, one a line; back go JSON lines: `{"pid": 123}` or
`{"errno": 2, "place": "argv"}`, and at the end `{"returncode": 0, "leftover": 0}` (negative: killed by that
signal; null: not even SIGKILL ended it).

When the socket ends or the worker's process is gone, however it died, everything the child started is ended:
SIGTERM, then SIGKILL. When the child ends by itself, whatever it left running is killed too, daemons with a
session of their own included: the shim is a *child subreaper*, so that orphans below it become its children.

Linux only for that last part. Where there is no subreaper (other POSIX systems), just the child's process
group is killed; a grandchild that moved to another session survives there.

Nothing of jobdeck is imported, and little of the standard library: this starts once per command.
"""
# pathlib would cost more start-up time than all the rest.
# ruff: noqa: PTH123, PTH208

from __future__ import annotations

import contextlib
import ctypes
import marshal
import os
import select
import signal
import sys
import time

PR_SET_CHILD_SUBREAPER = 36
# Between SIGTERM and SIGKILL for the children of a dead worker; everything is to be gone within 5 s.
ORPHAN_GRACE = 2.0
# How long to try to kill what does not die (it hangs in the kernel, or runs as another user).
GIVE_UP = 5.0
SWEEP_EVERY = 0.02
# What the shim ignores, so that a signal for the whole service leaves the decision to the worker, and what
# Python ignores by itself: all must be at their defaults in the child.
SHIELDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
DEFAULTED = (*SHIELDED, signal.SIGPIPE, signal.SIGXFSZ)


class Supervisor:
    """Runs one child and answers for its end."""

    def __init__(self, control: int) -> None:
        self.control = control
        self.child = 0
        self.status: int | None = None
        self.childless = False
        self.terminated = False
        self.kill_at: float | None = None
        self.received = b""
        self.subreaper = become_subreaper()
        self.poll = select.poll()

    def report(self, line: str) -> None:
        """Tell the worker, if there still is one."""
        try:
            os.write(self.control, line.encode() + b"\n")
        except OSError:
            self.terminate(ORPHAN_GRACE)

    def start(self, argv: list[bytes], env: dict[bytes, bytes], cwd: bytes) -> bool:
        """Start the child in a session of its own; False (and reported) where that is not possible."""
        place = "cwd"
        try:
            if cwd:
                os.chdir(cwd)
            place = "argv"
            # posix_spawnp looks a bare name up in the PATH of this process.
            os.environb[b"PATH"] = env.get(b"PATH", os.defpath.encode())
            self.child = os.posix_spawnp(argv[0], argv, env, setsid=True, setsigmask=[], setsigdef=DEFAULTED)
        except OSError as error:
            self.report(f'{{"errno": {error.errno}, "place": "{place}"}}')
            return False
        self.report(f'{{"pid": {self.child}}}')
        return True

    def let_go(self, fds: list[int]) -> None:
        """Keep nothing of the child's open: its pipes must end with it."""
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        for fd in (null, *fds):
            os.close(fd)
        os.chdir("/")

    def watch(self, worker: int) -> bool:
        """Listen to the socket, to ends of children and to the end of the worker; False when that is gone."""
        self.poll.register(self.control, select.POLLIN)
        self.woken, wake = os.pipe()
        os.set_blocking(self.woken, False)
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self.poll.register(self.woken, select.POLLIN)
        # The end of the socket is not enough: a process forked from the worker may hold its other side open.
        with contextlib.suppress(OSError, AttributeError):
            self.poll.register(os.pidfd_open(worker), select.POLLIN)
        return os.getppid() == worker

    def supervise(self) -> int:
        """Until nothing of the child is left; how many processes withstood SIGKILL."""
        while True:
            self.reap()
            now = time.monotonic()
            if self.status is not None:
                if not self.left_over():
                    return 0
                if self.kill_at is None:
                    self.kill_at = now
            pause = None
            if self.kill_at is not None:
                if now > self.kill_at + GIVE_UP:
                    return max(len(descendants()), 1)
                if now >= self.kill_at:
                    self.signal_all(signal.SIGKILL)
                pause = SWEEP_EVERY if now >= self.kill_at else self.kill_at - now
                if not self.subreaper:
                    pause = min(pause, 0.1)
            self.await_event(pause)

    def await_event(self, pause: float | None) -> None:
        for fd, _ in self.poll.poll(None if pause is None else pause * 1000 + 1):
            if fd == self.control:
                self.obey()
            elif fd == self.woken:
                os.read(self.woken, 4096)
            else:
                self.poll.unregister(fd)
                self.terminate(ORPHAN_GRACE)

    def obey(self) -> None:
        try:
            data = os.read(self.control, 4096)
        except OSError:
            data = b""
        if not data:
            self.poll.unregister(self.control)
            self.terminate(ORPHAN_GRACE)
            return
        *lines, self.received = (self.received + data).split(b"\n")
        for line in lines:
            word, _, grace = line.partition(b" ")
            if word == b"term":
                self.terminate(float(grace))
            elif word == b"kill":
                self.due(0.0)

    def terminate(self, grace: float) -> None:
        """SIGTERM once; SIGKILL `grace` seconds later, or when an earlier call said so."""
        self.due(grace)
        if not self.terminated:
            self.terminated = True
            self.signal_all(signal.SIGTERM)

    def due(self, seconds: float) -> None:
        """SIGKILL in `seconds`, unless it is due earlier already."""
        at = time.monotonic() + seconds
        self.kill_at = at if self.kill_at is None else min(self.kill_at, at)

    def reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self.childless = True
                return
            if pid == 0:
                return
            if pid == self.child:
                self.status = status

    def left_over(self) -> bool:
        """Whether anything the child started still runs, once the child itself has ended."""
        if self.subreaper:
            return not self.childless
        try:
            os.killpg(self.child, 0)
        except OSError:
            return False
        return True

    def signal_all(self, number: int) -> None:
        # While the child is not collected, its group id cannot have become somebody else's.
        whole_group = self.status is None or not self.subreaper
        if whole_group:
            with contextlib.suppress(OSError):
                os.killpg(self.child, number)
        for pid, group in descendants():
            if not (whole_group and group == self.child):
                with contextlib.suppress(OSError):
                    os.kill(pid, number)


def become_subreaper() -> bool:
    """Make orphans below this process its children; False where the system has no such thing."""
    if sys.platform != "linux":
        return False
    try:
        return bool(ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)
    except (OSError, AttributeError):
        return False


def descendants() -> list[tuple[int, int]]:
    """(pid, process group) of everything below this process; empty where there is no /proc."""
    children: dict[int, list[tuple[int, int]]] = {}
    try:
        names = os.listdir("/proc")
    except OSError:
        return []
    for name in names:
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                stat = file.read()
        except OSError:
            continue
        # "pid (name) state parent group …"; the name may hold spaces and parentheses.
        _, parent, group = stat[stat.rindex(b")") + 2 :].split(None, 3)[:3]
        children.setdefault(int(parent), []).append((int(name), int(group)))
    found: list[tuple[int, int]] = []
    queue = [os.getpid()]
    while queue:
        below = children.pop(queue.pop(), [])
        found += below
        queue += [pid for pid, _ in below]
    return found


def read_plan(control: int) -> bytes:
    """The worker's plan: eight bytes of length, then a marshalled tuple. Empty when the worker went away."""
    data, wanted = b"", 8
    while len(data) < wanted:
        try:
            piece = os.read(control, wanted - len(data))
        except OSError:
            return b""
        if not piece:
            return b""
        data += piece
        if len(data) == wanted == 8:
            wanted += int.from_bytes(data, "big")
    return data[8:]


def main() -> None:
    control = int(sys.argv[1])
    os.set_inheritable(control, False)
    for number in SHIELDED:
        signal.signal(number, signal.SIG_IGN)
    plan = read_plan(control)
    if not plan:
        return
    worker, argv, env, cwd, fds = marshal.loads(plan)  # noqa: S302  (written by the worker itself)
    supervisor = Supervisor(control)
    if not supervisor.watch(worker) or not supervisor.start(argv, env, cwd):
        return
    leftover = 0
    try:
        supervisor.let_go(fds)
        leftover = supervisor.supervise()
    finally:
        if supervisor.status is None or not supervisor.childless:
            supervisor.signal_all(signal.SIGKILL)
    code = "null" if supervisor.status is None else os.waitstatus_to_exitcode(supervisor.status)
    supervisor.report(f'{{"returncode": {code}, "leftover": {leftover}}}')


if __name__ == "__main__":
    main()
