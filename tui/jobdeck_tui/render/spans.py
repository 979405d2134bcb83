"""Lines of text with roles, measured in terminal cells: what every renderer returns and every widget paints.

A role (`good`, `dim`, …) is a name; the colours behind it are one table in `widgets/painting.py`.
"""

from __future__ import annotations

from collections.abc import Iterable

from rich.cells import cell_len, set_cell_size

from jobdeck.text import clean

Span = tuple[str, str]
"""Text and its role."""
Line = tuple[Span, ...]

_ELLIPSIS = "…"
_WIDEST = 2
"""Cells of the widest letter: in less room a line cannot be broken."""
FIELD_CHARS = 400
"""Most characters of one external field that a line ever takes: wider than any terminal, cheap to clean."""


def safe(text: object, limit: int = FIELD_CHARS) -> str:
    """External text as one inert line of at most `limit` characters."""
    return clean(str(text), limit)


def width_of(text: str) -> int:
    """Cells that `text` takes in a terminal."""
    return cell_len(text)


def cut(text: str, width: int) -> str:
    """`text` in at most `width` cells, with an ellipsis where something is missing."""
    if width <= 0:
        return ""
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, width - 1).rstrip() + _ELLIPSIS


def fit(text: str, width: int, *, right: bool = False) -> str:
    """`text` cut or padded to exactly `width` cells."""
    shown = cut(text, width)
    padding = " " * (width - cell_len(shown))
    return padding + shown if right else shown + padding


def plain(line: Line) -> str:
    """The text of a line without its roles."""
    return "".join(text for text, _role in line)


def line_width(line: Line) -> int:
    """Cells that a line takes."""
    return sum(cell_len(text) for text, _role in line)


def cut_line(line: Line, width: int) -> Line:
    """A line in at most `width` cells."""
    if line_width(line) <= width:
        return line
    kept: list[Span] = []
    room = width - 1
    for text, role in line:
        size = cell_len(text)
        if size > room:
            kept.append((set_cell_size(text, max(room, 0)).rstrip() + _ELLIPSIS, role))
            break
        kept.append((text, role))
        room -= size
    return tuple(kept) if width > 0 else ()


def spread(left: Line, right: Line, width: int) -> Line:
    """`left` at the left edge and `right` at the right; where both do not fit, `left` is cut."""
    room = width - line_width(right)
    if room < 1:
        return cut_line(right, width)
    shown = cut_line(left, room - 1) if right else cut_line(left, room)
    return (*shown, (" " * (room - line_width(shown)), "text"), *right)


def joined(parts: Iterable[Line], gap: str = "  ") -> Line:
    """Parts in one line with a gap between them; empty parts are left out."""
    out: list[Span] = []
    for part in parts:
        if not part:
            continue
        if out:
            out.append((gap, "dim"))
        out.extend(part)
    return tuple(out)


def wrapped(line: Line, width: int, *, indent: int = 2) -> list[Line]:
    """A line broken into lines of at most `width` cells; those after the first are indented."""
    if line_width(line) <= width or width - indent < _WIDEST:
        return [line]
    rows: list[Line] = []
    row: list[Span] = []
    room = width
    for text, role in line:
        rest = text
        while cell_len(rest) > room:
            head, rest = _split(rest, room)
            row.append((head, role))
            rows.append(tuple(row))
            row, room = [(" " * indent, "text")], width - indent
        row.append((rest, role))
        room -= cell_len(rest)
    rows.append(tuple(row))
    return rows


def _split(text: str, width: int) -> tuple[str, str]:
    """The longest beginning that fits, and the rest; marks stay with their letters."""
    if text.isascii():
        return text[:width], text[width:]
    end = 0
    while end < len(text) and cell_len(text[: end + 1]) <= width:
        end += 1
    return text[:end], text[end:]


def changed_cells(before: Line, after: Line, width: int) -> int:
    """How many cells from the left have to be painted for `after` to stand where `before` stood.

    Nothing is left out at the left end: Textual sends a line of a widget from its beginning in any case.
    """
    if line_width(before) != line_width(after):
        return width
    old, new = (
        [(char, role) for text, role in reversed(line) for char in reversed(text)] for line in (before, after)
    )
    same = 0
    while same < min(len(old), len(new)) and old[same] == new[same]:
        same += 1
    unchanged = "".join(char for char, _role in reversed(new[:same]))
    # One more: a mark at the edge belongs to the letter before it.
    return min(line_width(after) - cell_len(unchanged) + 1, width)
