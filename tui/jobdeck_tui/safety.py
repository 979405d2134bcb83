"""The last walls: nothing a job says reaches the terminal as a control, and no crash shows what was in memory.

Renderers clean every text (`jobdeck.text.clean`); the filter is what holds where one of them should forget it.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

from jobdeck.text import clean

# Without the joiner (U+200D): `clean` leaves it only between emoji, whose width would change without it.
_CONTROLS: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200c\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
_MARK: Final = "\ufffd"


class ControlFilter(LineFilter):
    """Replaces what a terminal could obey in the text of every segment that is about to be written."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [
            segment
            if segment.control or segment.text.isprintable()
            else Segment(_CONTROLS.sub(_MARK, segment.text), segment.style)
            for segment in segments
        ]


def crash_report(error: BaseException) -> str:
    """The traceback without the values of variables: they may be passwords."""
    return "".join(traceback.format_exception(error))


def crash_line(error: BaseException, log_file: Path | None) -> str:
    """One inert line for the terminal."""
    where = f"; details in {log_file}" if log_file else ""
    return clean(f"jobdeck console: unexpected {type(error).__name__}{where}", 400)


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Send all logging to a file of mode 0600 while the console owns the terminal.

    A line that a library writes to stderr would else stand in the middle of the screen.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.fchmod(descriptor, 0o600)
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    with os.fdopen(descriptor, "a", encoding="utf-8", errors="backslashreplace") as stream:
        handler = logging.StreamHandler(stream)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
        root.handlers[:] = [handler]
        root.setLevel(logging.WARNING)
        logging.captureWarnings(True)
        try:
            yield
        finally:
            logging.captureWarnings(False)
            root.handlers[:] = before
            root.setLevel(level)


def is_terminal() -> bool:
    """Whether there is a terminal to draw on and to read keys from."""
    return sys.stdin.isatty() and sys.stderr.isatty()
