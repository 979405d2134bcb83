"""Makes the bytes of a format from rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from jobdeck_handlers.export.rows import Row
from jobdeck_handlers.export.sink import Sink


class Writer(ABC):
    """Writes rows to a file that somebody else closes."""

    @abstractmethod
    def write(self, rows: Sequence[Row]) -> int:
        """Write the rows; how many bytes they are, before compression."""

    @abstractmethod
    def finish(self) -> None:
        """Write what comes after the last row."""

    def abandon(self) -> None:  # noqa: B027  most have nothing to let go of
        """Write nothing more."""


class Plain:
    """Where the bytes of a text format go, as they are or compressed."""

    def __init__(self, file: Sink) -> None:
        self._file = file

    def write(self, data: bytes) -> None:
        self._file.write(data)

    def finish(self) -> None:
        """Write what is left."""


class Gzip(Plain):
    """Equal bytes for equal data: without a name and a time."""

    def __init__(self, file: Sink) -> None:
        super().__init__(file)
        # Not `gzip.GzipFile`: one that is not closed writes its end when it is thrown away.
        import zlib

        self._compressor = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)

    def write(self, data: bytes) -> None:
        self._file.write(self._compressor.compress(data))

    def finish(self) -> None:
        self._file.write(self._compressor.flush())
