"""Hints between the processes of one SQLite file: one Unix datagram socket each, in a private folder.

The folder is named by a hash of the file's path and the socket names are short, because a socket path has at most
107 bytes. A socket nobody answers on is left over from a process that died and is removed by whoever notices.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import socket
import stat
import tempfile
import threading
import time
from pathlib import Path
from typing import Final

from jobdeck.store.signals import Deafness, Signals
from jobdeck.store.transaction import ALL_HINTS, Hint

CHANGE_GAP = 0.05
"""Seconds between two tellings of what only people look at: every one wakes a thread of every process."""
# The times of files are as exact as the kernel's tick.
_GRAIN_NS = 20_000_000
NO_SOCKET: Final = Deafness(
    "no socket for hints can be made in the runtime folder: new runs and cancels are found by polling",
    "set XDG_RUNTIME_DIR to a folder that belongs to you alone",
)


class DatagramPeers:
    """Sends this process's hints to the others and publishes theirs here. Does nothing where sockets cannot be had."""

    def __init__(self, database: Path, signals: Signals) -> None:
        self._signals = signals
        self._name = hashlib.sha256(str(database.resolve()).encode()).hexdigest()[:16]
        self._own: Path | None = None
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._closing = False
        self._hints = Hint.NONE
        self._sent_at = 0.0
        self._peers: list[str] = []
        self._folder_changed = 0

    @property
    def is_open(self) -> bool:
        """Whether hints of others can come."""
        return self._socket is not None

    def open(self) -> None:
        """Bind and begin to listen."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            folder = runtime_folder() / self._name
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            own = folder / f"{os.getpid():x}{secrets.token_hex(3)}"
            sock.bind(str(own))
        except OSError:
            # Polling finds everything a hint would have told, only later.
            sock.close()
            return
        self._own, self._socket = own, sock
        self._closing = False
        self._thread = threading.Thread(target=self._receive, args=(sock,), name="jobdeck-hints", daemon=True)
        self._thread.start()

    def send(self, hints: Hint) -> None:
        """Tell the other processes. Never blocks: a peer whose buffer is full has hints enough.

        News that only people look at is told a few times a second; what waits goes out with `flush`.
        """
        self._hints |= hints
        if self._hints & ~Hint.CHANGE or time.monotonic() - self._sent_at > CHANGE_GAP:
            self.flush()

    @property
    def waits(self) -> bool:
        """Whether something has not been told yet."""
        return bool(self._hints)

    def flush(self) -> None:
        """Tell what waits."""
        hints, self._hints = self._hints, Hint.NONE
        if self._own is None or not hints:
            return
        self._sent_at = time.monotonic()
        message = bytes([hints.value])
        with contextlib.suppress(OSError):
            for peer in self._peers_of(self._own):
                self._send_to(peer, message)

    def _peers_of(self, own: Path) -> list[str]:
        """The sockets of the others; the folder is read only where it has changed."""
        changed = own.parent.stat().st_mtime_ns
        if changed != self._folder_changed:
            self._peers = [peer.path for peer in os.scandir(own.parent) if peer.path != str(own)]
            # A change within the clock's own grain of this reading would show no other time.
            grown = time.time_ns() - changed > _GRAIN_NS
            self._folder_changed = changed if grown else 0
        return self._peers

    def _send_to(self, path: str, message: bytes) -> None:
        try:
            assert self._socket is not None  # noqa: S101  checked by send()
            self._socket.sendto(message, socket.MSG_DONTWAIT, path)
        except BlockingIOError:
            return
        except (ConnectionRefusedError, FileNotFoundError):
            with contextlib.suppress(OSError):
                Path(path).unlink()
        except OSError:
            return

    def _receive(self, sock: socket.socket) -> None:
        while True:
            message = sock.recv(16)
            if self._closing:
                return
            if len(message) == 1:
                self._signals.publish(Hint(message[0] & ALL_HINTS.value))

    def close(self) -> None:
        """Tell what waits, stop listening and remove the socket."""
        self.flush()
        if self._socket is None or self._own is None or self._thread is None:
            return
        with contextlib.suppress(OSError):
            self._own.unlink()
        self._closing = True
        # Wakes the thread, also where somebody has removed the socket's name.
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()
        self._socket = self._own = self._thread = None


def runtime_folder() -> Path:
    """A folder that belongs to this user alone. Raises PermissionError where someone else made it."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    folder = (
        Path(base) / "jobdeck"
        if base and Path(base).is_dir()
        else Path(tempfile.gettempdir()) / f"jobdeck-{os.getuid()}"
    )
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    facts = folder.lstat()
    if facts.st_uid != os.getuid() or stat.S_IMODE(facts.st_mode) & 0o077 or not stat.S_ISDIR(facts.st_mode):
        raise PermissionError(f"{folder} does not belong to this user alone")
    return folder
