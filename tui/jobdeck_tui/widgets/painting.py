"""From lines with roles to what Textual draws: the one table of colours.

Only the terminal's own sixteen colours and text styles are named, so that the user's palette decides; every theme
turns them into its own.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from jobdeck_tui.render.spans import Line, cut_line

_STYLES: Final = {
    "text": Style(),
    "strong": Style(bold=True),
    "dim": Style(dim=True),
    "head": Style(bold=True, underline=True),
    "title": Style(bold=True, reverse=True),
    "key": Style(bold=True, color="cyan"),
    "chip": Style(bold=True, color="yellow"),
    "good": Style(color="green"),
    "bad": Style(bold=True, color="red"),
    "warn": Style(color="yellow"),
    "busy": Style(color="cyan"),
    "ask": Style(bold=True, color="yellow"),
    "match": Style(reverse=True, color="yellow"),
}
_PLAIN: Final = Style()


@lru_cache(256)
def _style(role: str, base: Style, reverse: bool) -> Style:
    if reverse:
        # One plain look for the cursor: colours turned round are unreadable on some palettes.
        return base + Style(reverse=True, bold=role in ("strong", "bad"))
    return base + _STYLES.get(role, _PLAIN)


def paint(line: Line, width: int, base: Style, *, reverse: bool = False) -> Strip:
    """A strip of exactly `width` cells."""
    segments = [Segment(text, _style(role, base, reverse)) for text, role in cut_line(line, width) if text]
    return Strip(segments).simplify().adjust_cell_length(width, _style("text", base, reverse))


def highlighted(line: Line, needle: str) -> Line:
    """The line with every occurrence of `needle` (any case) in the role `match`."""
    if not needle:
        return line
    out: list[tuple[str, str]] = []
    for text, role in line:
        rest, lowered = text, text.lower()
        # Lower case may be longer than the text in a few scripts; then places would not agree.
        while len(lowered) == len(rest) and (at := lowered.find(needle.lower())) >= 0:
            out += [(rest[:at], role), (rest[at : at + len(needle)], "match")]
            rest, lowered = rest[at + len(needle) :], lowered[at + len(needle) :]
        out.append((rest, role))
    return tuple(out)
