"""The log of a run: 10 MiB of it to the byte, and then a mark."""

from __future__ import annotations

from uuid import UUID

from jobdeck import limits
from jobdeck.engine.mailbox import Mailbox
from jobdeck.store.claim import ClaimedRun
from jobdeck.store.leases import LogLine

MARK = ("warn", "log truncated: the run has reached 10 MiB")
LINE = "twenty bytes of line"
COST = len(LINE) + 16
"""Bytes that it counts for: what a row needs beside its text is taken for 16."""


def mailbox(log_bytes: int, *, debug_mode: bool = False) -> Mailbox:
    """That of an attempt whose run has so much of a log already."""
    nobody = UUID(int=0)
    facts = (nobody, 1, 1, nobody, "acme", None, None, "sync", "default", "{}", 3, 0, 0, 0.0)
    return Mailbox(ClaimedRun(*facts, debug_mode, log_bytes, None, 0))


def said(box: Mailbox, *lines: str) -> tuple[list[tuple[str, str]], int]:
    """What is stored of these lines, and how large the log is then."""
    for line in lines:
        box.log("info", line, {})
    report = box.take()
    assert report is not None
    kept: tuple[LogLine, ...] = report.lines
    return [(line.level, line.message) for line in kept], report.log_bytes


def test_the_limit_is_ten_mebibytes() -> None:
    """As the documents say."""
    assert limits.LOG_RUN_BYTES == 10 * 1024 * 1024


def test_a_line_that_just_fits_is_kept() -> None:
    """The log is full to the byte then, and there is no mark, for nothing is missing."""
    assert said(mailbox(limits.LOG_RUN_BYTES - COST), LINE) == ([("info", LINE)], limits.LOG_RUN_BYTES)


def test_a_line_that_is_one_byte_too_long_is_not() -> None:
    """The mark stands in its place, once; whatever comes then is dropped."""
    lines, size = said(mailbox(limits.LOG_RUN_BYTES - COST + 1), LINE, "short", LINE)
    assert (lines, size) == ([MARK], limits.LOG_RUN_BYTES + 1)


def test_a_full_log_stays_full() -> None:
    """In a later attempt as well: where the mark stands nothing more is said, where it does not it comes first."""
    box = mailbox(limits.LOG_RUN_BYTES + 1)
    box.log("error", LINE, {})
    assert box.take() is None
    assert said(mailbox(limits.LOG_RUN_BYTES), LINE, LINE)[0] == [MARK]


def test_whoever_looks_for_a_fault_has_no_cap() -> None:
    """A run in debug mode keeps everything, whatever it has said before."""
    lines, size = said(mailbox(limits.LOG_RUN_BYTES, debug_mode=True), LINE, LINE)
    assert (lines, size) == ([("info", LINE)] * 2, limits.LOG_RUN_BYTES + 2 * COST)
