"""The file that is written: counted, summed and bounded while it grows."""

from __future__ import annotations

import errno
import hashlib
import io
import os
from dataclasses import dataclass
from typing import Any

from jobdeck import Discard, Retry


def mark_of(found: os.stat_result) -> str:
    """Tells this content of this file from any other, also under another name."""
    return f"{found.st_dev}:{found.st_ino}:{found.st_size}:{found.st_mtime_ns}"


@dataclass(frozen=True, slots=True)
class Sealed:
    """A file that is complete and on the disk."""

    size: int
    """Bytes."""
    sha256: str
    mark: str


class Sink(io.RawIOBase):
    """Takes what a writer writes. Raises Discard beyond `max_bytes`, and Retry where the disk is full."""

    def __init__(self, descriptor: int, max_bytes: int) -> None:
        self._descriptor = descriptor
        self._max_bytes = max_bytes
        self._digest = hashlib.sha256()
        self._size = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._size

    def write(self, data: Any) -> int:
        """Write all of it."""
        view = memoryview(data).cast("B")
        count = view.nbytes
        if self._size + count > self._max_bytes:
            raise Discard(f"the file would have more than max_bytes, {self._max_bytes:,}; nothing is kept")
        self._digest.update(view)
        self._size += count
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError as error:
            raise _verdict(error) from error
        return count

    def seal(self) -> Sealed:
        """Wait until it is on the disk."""
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            raise _verdict(error) from error
        mark = mark_of(os.fstat(self._descriptor))
        return Sealed(self._size, self._digest.hexdigest(), mark)

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()


def _verdict(error: OSError) -> Exception:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Retry("the disk of the project's folder is full; free some space, or set max_bytes")
    return error
