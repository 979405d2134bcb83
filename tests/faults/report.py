"""The report: one row per case and database, noted on the report of its test, shown as a table at the end.

A pytest plugin, because the tests may be spread over processes, and a table is wanted in one.

`python -m tests.faults.report ROWS [DOCUMENT]` prints the table of a file of rows, and puts it into the document
between its two marks, below a list of the cases.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import pytest

REPORT_VARIABLE = "JOBDECK_TEST_FAULTS_REPORT"
"""Names the file that rows are appended to; without it they are only shown."""

_BEGIN, _END = "<!-- faults: begin -->", "<!-- faults: end -->"
_HEAD = (
    "case", "database", "faults injected", "runs", "lost", "illegal doubles", "other breaches",
    "longest recovery", "throughput back", "took", "note",
)  # fmt: skip

_PROPERTY: Final = "fault case"


@dataclass(frozen=True, slots=True)
class Row:
    """What one case showed on one database. Times are seconds; None where it does not apply."""

    case: str
    title: str
    """What is done, and what must come of it."""
    database: str
    size: str
    faults: int
    runs: int
    lost: int
    doubles: int
    other: int
    recovery: float | None
    throughput: float | None
    seconds: float
    note: str = ""


def write_row(row: Row, properties: list[tuple[str, object]]) -> None:
    """Note a row among the properties of its test, and in the file that the environment names."""
    line = json.dumps(asdict(row))
    properties.append((_PROPERTY, line))
    if path := os.environ.get(REPORT_VARIABLE):
        with Path(path).open("a") as file:
            file.write(f"{line}\n")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the table of this session."""
    if rows := list(_noted(terminalreporter)):
        terminalreporter.section("fault cases")
        terminalreporter.write_line(table(rows))


def _noted(terminalreporter: pytest.TerminalReporter) -> Iterator[Row]:
    for outcome in ("passed", "failed", "xfailed", "xpassed"):
        for report in terminalreporter.getreports(outcome):
            for name, line in getattr(report, "user_properties", ()):
                if name == _PROPERTY:
                    yield Row(**json.loads(line))


def read_rows(path: Path) -> list[Row]:
    """The rows of a file."""
    return [Row(**json.loads(line)) for line in path.read_text().splitlines()]


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table, by case and database."""
    lines = [_line(_HEAD), _line(["---"] * len(_HEAD))]
    lines += [_line(_cells(row)) for row in sorted(rows, key=lambda row: (row.case, row.database, row.note))]
    return "\n".join(lines)


def titles(rows: Sequence[Row]) -> str:
    """What the cases are, as a Markdown list."""
    found = sorted({(row.case, row.title) for row in rows})
    return "\n".join(f"- **{case}**: {title}" for case, title in found)


def put_into(document: str, rows: Sequence[Row]) -> str:
    """The document with cases and table between its marks. Raises ValueError where it has none."""
    before, begin, rest = document.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not (begin and end):
        raise ValueError(f"the document lacks {_BEGIN} or {_END}")
    return f"{before}{begin}\n{titles(rows)}\n\n{table(rows)}\n{end}{after}"


def _cells(row: Row) -> list[str]:
    return [
        row.case,
        row.database,
        f"{row.faults:,}",
        f"{row.runs:,}",
        str(row.lost),
        str(row.doubles),
        str(row.other),
        "-" if row.recovery is None else f"{row.recovery:.1f} s",
        "-" if row.throughput is None else f"{row.throughput:.0%}",
        f"{row.seconds:.0f} s",
        row.note,
    ]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def main(arguments: Sequence[str]) -> None:
    """See the module."""
    rows = read_rows(Path(arguments[0]))
    print(table(rows))
    for name in arguments[1:]:
        document = Path(name)
        document.write_text(put_into(document.read_text(), rows))


if __name__ == "__main__":
    main(sys.argv[1:])
