"""CSV as RFC 4180 has it, in UTF-8. NULL is an empty field, empty text is `""`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from jobdeck_handlers.export.rows import Row
from jobdeck_handlers.export.values import TEXTS
from jobdeck_handlers.export.writers import Plain, Writer

# What Excel, LibreOffice and others begin to calculate at, the full-width forms included; some skip blanks before.
_FORMULA: Final = re.compile(r"\s*[=+\-@＝＋－＠]|[\t\r\n]")


class CsvWriter(Writer):
    """Not the csv module's: that one writes NULL and empty text alike."""

    def __init__(self, out: Plain, names: Sequence[str], delimiter: str, *, spreadsheet_safe: bool) -> None:
        self._out = out
        self._delimiter = delimiter
        self._special = re.compile(rf'["\r\n{re.escape(delimiter)}]').search
        self._text: Callable[[str], str] = _harmless if spreadsheet_safe else str
        self._out.write(self._line(names).encode())

    def write(self, rows: Sequence[Row]) -> int:
        data = "".join(map(self._line, rows)).encode()
        self._out.write(data)
        return len(data)

    def finish(self) -> None:
        self._out.finish()

    def _line(self, row: Row) -> str:
        # Many readers skip a line with nothing in it.
        return (self._delimiter.join(map(self._field, row)) or '""') + "\r\n"

    def _field(self, value: Any) -> str:
        if value is None:
            return ""
        text = self._text(value) if isinstance(value, str) else TEXTS[type(value)](value)
        if text and not self._special(text):
            return text
        return '"' + text.replace('"', '""') + '"'


def _harmless(text: str) -> str:
    return f"'{text}" if _FORMULA.match(text) else text
