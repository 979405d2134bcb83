"""The line that says what was done last, as a command line, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass

from jobdeck_tui.render.spans import Line, safe, spread


@dataclass(frozen=True, slots=True)
class Notice:
    """Clean or not, both texts are made inert when they are shown."""

    text: str = ""
    command: str = ""
    bad: bool = False


def notice_line(notice: Notice, right: Line, width: int) -> Line:
    """`$ jobdeck runs cancel 7f3k2x  asked to stop` and, at the right end, where the view stands."""
    left: list[tuple[str, str]] = []
    if notice.command:
        left.append((f" $ {safe(notice.command)}", "key"))
    if notice.text:
        mark = "! " if notice.bad else ""
        left.append((f"{'  ' if left else ' '}{mark}{safe(notice.text)}", "bad" if notice.bad else "strong"))
    return spread(tuple(left), right, width)
