"""Bytes of a child's output become lines of text, in bounded memory whatever the child writes."""

from __future__ import annotations

from jobdeck.limits import LOG_LINE_BYTES
from jobdeck.text import cut_bytes


class LineSplitter:
    """Cuts a stream of bytes into lines of at most `cap` bytes of UTF-8.

    What goes beyond is dropped and marked; bytes that are not UTF-8 become U+FFFD. It holds at most `cap` + 1
    bytes.
    """

    def __init__(self, cap: int = LOG_LINE_BYTES) -> None:
        self._cap = cap
        self._held = bytearray()

    def feed(self, data: bytes) -> list[str]:
        """The lines that `data` completes."""
        *complete, rest = data.split(b"\n")
        lines = [self._line(piece) for piece in complete]
        self._hold(rest)
        return lines

    def finish(self) -> list[str]:
        """The last line, where the stream ended without a line break."""
        return [self._line(b"")] if self._held else []

    def _line(self, piece: bytes) -> str:
        if self._held or len(piece) > self._cap:
            self._hold(piece)
            piece = bytes(self._held)
            self._held.clear()
        return cut_bytes(piece.decode("utf-8", "replace").removesuffix("\r"), self._cap)

    def _hold(self, piece: bytes) -> None:
        # One byte more than fits, so that cut_bytes sees that something was cut.
        self._held += piece[: self._cap + 1 - len(self._held)]
