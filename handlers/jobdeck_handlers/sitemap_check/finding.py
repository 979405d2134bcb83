"""What a check says about one page."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

TEXT_CHARS: Final = 1_000
"""Most characters of a text that a page chose itself, like its title."""


class Verdict(StrEnum):
    """The most serious thing there is to say about a page; the worst comes first."""

    SITEMAP = "sitemap_unreadable"
    """Not a page: a sitemap that an index names and that cannot be read."""
    REFUSED = "refused"
    """The URL, or its address, is one that the worker may not ask."""
    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    HTTP_ERROR = "http_error"
    REDIRECT_LOOP = "redirect_loop"
    TOO_MANY_REDIRECTS = "too_many_redirects"
    REDIRECT_BROKEN = "redirect_broken"
    REDIRECT_ELSEWHERE = "redirect_elsewhere"
    """A redirect to another host, not followed."""
    REDIRECT = "redirect"
    NOINDEX = "noindex"
    CANONICAL_CONFLICT = "canonical_conflict"
    CANONICAL_OTHER = "canonical_other"
    CANONICAL_RELATIVE = "canonical_relative"
    CANONICAL_MISSING = "canonical_missing"
    TITLE_MISSING = "title_missing"
    TITLE_EMPTY = "title_empty"
    TITLE_LONG = "title_long"
    TITLE_DUPLICATE = "title_duplicate"
    SLOW = "slow"
    DISALLOWED = "disallowed"
    """robots.txt keeps it from being asked for."""
    OTHER_HOST = "other_host"
    OK = "ok"

    @property
    def skipped(self) -> bool:
        """Whether the page was left alone, on purpose."""
        return self in (Verdict.DISALLOWED, Verdict.OTHER_HOST)

    @property
    def problem(self) -> bool:
        return self is not Verdict.OK and not self.skipped


@dataclass(frozen=True, slots=True)
class Finding:
    """One row of the report. Texts are `plain`."""

    verdict: Verdict
    detail: str = ""
    status: int | None = None
    final_url: str | None = None
    redirects: int = 0
    title: str | None = None
    canonical: str | None = None
    response_ms: float | None = None


def plain(text: str, chars: int = TEXT_CHARS) -> str:
    """A stranger's text as one line without control and formatting characters, cut after `chars`.

    The data file is read with other programs too, which print what they find to a terminal.
    """
    if len(text) <= chars and text.isprintable() and "  " not in text:
        return text.strip()
    line = " ".join("".join(each if each.isprintable() else " " for each in text[: 4 * chars]).split())
    return line if len(line) <= chars else line[: chars - 1] + "…"
