"""The line that says what was done last, as a command line, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass

from jobdeck_tui.render.spans import Line, cut_line, safe


@dataclass(frozen=True, slots=True)
class Notice:
    """Clean or not, both texts are made inert when they are shown."""

    text: str = ""
    command: str = ""
    bad: bool = False


def notice_line(notice: Notice, width: int) -> Line:
    """`stop asked, still running  $ jobdeck runs cancel 7f3k2x`.

    The outcome comes first: where there is no room, the end of the command is what can be missed.
    """
    spans: list[tuple[str, str]] = []
    if notice.text:
        spans.append((f" {'! ' if notice.bad else ''}{safe(notice.text)}", "bad" if notice.bad else "strong"))
    if notice.command:
        spans.append((f"{' ' if spans else ''} $ {safe(notice.command)}", "key"))
    return cut_line(tuple(spans), width)
