"""Starts a shim with its pipes; synchronous, so that no cancellation falls between a start and its record."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_SHIM: Final = str(Path(__file__).with_name("shim.py"))
# What the interpreter of the shim may need to find its own library; nothing else of the worker's environment.
_SHIM_ENVIRONMENT: Final = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


@dataclass(frozen=True, slots=True)
class Launched:
    """A shim that waits for its plan, and this side's ends of what connects it."""

    shim: subprocess.Popen[bytes]
    control: socket.socket
    stdout: int
    stderr: int


def launch(stdin: bytes | None, pass_fds: Sequence[int]) -> Launched:
    """Start a shim whose child reads `stdin` (None: nothing) and inherits `pass_fds`. Raises OSError."""
    with ExitStack() as ours, ExitStack() as theirs:
        control, far = socket.socketpair()
        ours.callback(control.close)
        theirs.callback(far.close)
        control.setblocking(False)
        readers, writers = [], []
        for _ in ("stdout", "stderr"):
            reader, writer = os.pipe()
            ours.callback(os.close, reader)
            theirs.callback(os.close, writer)
            readers.append(reader)
            writers.append(writer)
        shim = subprocess.Popen(
            [sys.executable, "-I", "-S", _SHIM, str(far.fileno())],
            stdin=_stdin_file(stdin, theirs),
            stdout=writers[0],
            stderr=writers[1],
            env={name: os.environ[name] for name in _SHIM_ENVIRONMENT if name in os.environ},
            pass_fds=(far.fileno(), *pass_fds),
            start_new_session=True,
        )
        ours.pop_all()
        return Launched(shim, control, *readers)


def _stdin_file(data: bytes | None, cleanup: ExitStack) -> int:
    """A file rather than a pipe: it needs no writer, so a child that never reads blocks nobody."""
    if data is None:
        return subprocess.DEVNULL
    file = cleanup.enter_context(tempfile.TemporaryFile())  # noqa: SIM115  (the stack closes it)
    file.write(data)
    file.seek(0)
    return file.fileno()
