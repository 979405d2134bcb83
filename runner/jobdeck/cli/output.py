"""The one writer: data goes to stdout, talk goes to stderr, and neither can steer the terminal."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from jobdeck.text import clean


class ReaderGone(Exception):
    """Whoever read stdout has closed it: `jobdeck … | head`. Not an OSError, which typer would end with 1."""


def _write(text: str) -> None:
    try:
        print(text, file=sys.stdout, flush=True)
    except BrokenPipeError:
        raise ReaderGone from None


def emit(text: str) -> None:
    """One line of data."""
    _write(clean(text))


def emit_block(text: str) -> None:
    """Data of several lines."""
    _write(clean(text, lines=True))


def emit_json(value: Any) -> None:
    """One JSON value, indented."""
    _write(json_text(value, indent=2))


def emit_json_line(value: Mapping[str, Any]) -> None:
    """One JSON object on one line, for streams of them."""
    _write(json_text(value))


def emit_table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, shrink: Sequence[int] = ()) -> None:
    """A table of data, fitted to the terminal; unbounded where stdout is none. `shrink`: columns to cut first."""
    from jobdeck.cli.table import table_lines

    _write("\n".join(table_lines(headings, rows, shrink=shrink, width=terminal_width())))


def say(text: str) -> None:
    """One line of talk."""
    print(clean(text), file=sys.stderr, flush=True)


def say_block(text: str) -> None:
    """Talk of several lines."""
    print(clean(text, lines=True), file=sys.stderr, flush=True)


def json_text(value: Any, *, indent: int | None = None) -> str:
    """JSON in which every character outside printable ASCII is escaped."""
    text = json.dumps(value, ensure_ascii=True, indent=indent, separators=None if indent else (",", ":"))
    # Printable for the json module, a control character for terminals; it can only stand inside strings.
    return text.replace("\x7f", "\\u007f")


def terminal_width() -> int | None:
    """Columns of the terminal on stdout, else None."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def prepare_streams() -> None:
    """Let no character fail: what the terminal's encoding lacks is shown as an escape."""
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="backslashreplace")


def silence_stdout() -> None:
    """After the reader of a pipe has gone: nothing more can fail, also not the flush at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
