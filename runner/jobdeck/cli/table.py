"""Aligned plain columns. Pure: rows in, lines out, every cell made inert."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.cells import cell_len, set_cell_size

from jobdeck.text import clean

_GAP = "  "
_NARROWEST = 8
_ELLIPSIS = "…"


def table_lines(
    headings: Sequence[str], rows: Sequence[Sequence[str]], *, shrink: Sequence[int], width: int | None
) -> Iterator[str]:
    """Heading and rows, each at most `width` cells wide (None: as wide as the data).

    Columns named in `shrink` give way in that order, each down to 8 cells; then the line is cut.
    """
    cells = [list(headings), *([clean(cell) for cell in row] for row in rows)]
    widths = [max(cell_len(row[column]) for row in cells) for column in range(len(headings))]
    if width is not None:
        _narrow(widths, shrink, width)
    for row in cells:
        line = _GAP.join(fit(cell, size) for cell, size in zip(row, widths, strict=True)).rstrip()
        yield line if width is None else cut(line, width)


def fit(text: str, size: int) -> str:
    """Exactly `size` cells: padded, or cut with an ellipsis."""
    return set_cell_size(cut(text, size), size)


def cut(text: str, size: int) -> str:
    """At most `size` cells, with an ellipsis where something is missing."""
    if cell_len(text) <= size:
        return text
    return set_cell_size(text, max(size - 1, 0)).rstrip() + _ELLIPSIS


def _narrow(widths: list[int], shrink: Sequence[int], width: int) -> None:
    excess = sum(widths) + len(_GAP) * (len(widths) - 1) - width
    for column in shrink:
        if excess <= 0:
            return
        given = max(min(excess, widths[column] - _NARROWEST), 0)
        widths[column] -= given
        excess -= given
