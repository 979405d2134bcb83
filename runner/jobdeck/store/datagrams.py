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
from pathlib import Path

from jobdeck.store.signals import Signals
from jobdeck.store.transaction import Hint


class DatagramPeers:
    """Sends this process's hints to the others and publishes theirs here. Does nothing where sockets cannot be had."""

    def __init__(self, database: Path, signals: Signals) -> None:
        self._signals = signals
        self._name = hashlib.sha256(str(database.resolve()).encode()).hexdigest()[:16]
        self._own: Path | None = None
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._closing = False

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
        """Tell the other processes. Never blocks: a peer whose buffer is full has hints enough."""
        if self._own is None or not hints:
            return
        message = bytes([hints.value])
        with contextlib.suppress(OSError):
            for peer in list(os.scandir(self._own.parent)):
                if peer.path != str(self._own):
                    self._send_to(peer.path, message)

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
                self._signals.publish(Hint(message[0] & (Hint.WORK | Hint.CANCEL | Hint.CHANGE).value))

    def close(self) -> None:
        """Stop listening and remove the socket."""
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
