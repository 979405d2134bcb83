"""What a running attempt has said and nobody has stored yet: written from its thread, emptied by the engine."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic_core import to_jsonable_python

from jobdeck import limits
from jobdeck.engine.safe_text import inert, safe_line, safe_text
from jobdeck.model import Progress
from jobdeck.store.claim import ClaimedRun
from jobdeck.store.leases import LogLine, Report

# Weight of the newest gap in the moving average of gaps between progress calls.
_GAP_WEIGHT = 0.3
_FIELDS_BYTES = 4 * limits.KIB
_LEVELS = {"debug", "info", "warn", "error"}
# What every reader of JSON keeps exactly; the databases' own integers end at 2^63.
_COUNT_MAX = 2**53


class Mailbox:
    """Progress is coalesced to its newest value; log lines are kept in order up to the run's cap."""

    def __init__(self, run: ClaimedRun) -> None:
        self._run = run
        self._lock = threading.Lock()
        self._progress = Progress()
        self._moved = False
        self._moved_at: float | None = None
        self._gap: float | None = None
        self._lines: list[LogLine] = []
        self._log_bytes = run.log_bytes
        # Full to the byte there is no mark yet; with the mark the log counts as larger than it may be.
        self._full = not run.debug_mode and run.log_bytes > limits.LOG_RUN_BYTES

    def progress(self, values: Mapping[str, Any]) -> None:
        """Take over the values that are not None."""
        given = {name: value for name, value in values.items() if value is not None}
        if "message" in given:
            given["message"] = safe_line(str(given["message"]), limits.MESSAGE_CHARS)
        for name in ("processed", "total", "failed", "skipped"):
            if name in given:
                given[name] = min(max(int(given[name]), 0), _COUNT_MAX)
        now = time.monotonic()
        with self._lock:
            self._progress = replace(self._progress, **given)
            self._moved = True
            if self._moved_at is not None:
                gap = now - self._moved_at
                self._gap = gap if self._gap is None else self._gap + _GAP_WEIGHT * (gap - self._gap)
            self._moved_at = now

    def log(self, level: str, message: str, fields: Mapping[str, Any]) -> None:
        """Add a line: cleaned, redacted, cut to 8 KiB; beyond 10 MiB a run, a mark and then nothing more."""
        if level not in _LEVELS:
            level = "info"
        if level == "debug" and not self._run.debug_mode:
            return
        # Before anything else: to clean a line that is not kept would cost more than all the rest.
        if self._is_full():
            return
        text = safe_text(str(message), limits.LOG_LINE_BYTES)
        line = LogLine(time.time_ns() // 1000, level, text, _fields(fields))
        size = len(text.encode()) + len(line.fields or "") + 16
        with self._lock:
            if self._is_full():
                return
            if not self._run.debug_mode and self._log_bytes + size > limits.LOG_RUN_BYTES:
                self._full = True
                line = line._replace(
                    level="warn", message="log truncated: the run has reached 10 MiB", fields=None
                )
            self._log_bytes += size
            self._lines.append(line)

    def _is_full(self) -> bool:
        return self._full

    def take(self) -> Report | None:
        """What is new since the last time; None where nothing is."""
        with self._lock:
            if not self._moved and not self._lines:
                return None
            report = Report(
                run_id=self._run.id,
                fence=self._run.fence,
                attempt=self._run.attempt,
                progress=self._progress if self._moved else None,
                progress_gap_us=None if self._gap is None else int(self._gap * 1_000_000),
                lines=tuple(self._lines),
                log_bytes=self._log_bytes,
            )
            self._moved = False
            self._lines = []
            return report

    def put_back(self, report: Report) -> None:
        """A report that could not be stored: its lines come first again."""
        with self._lock:
            self._lines = [*report.lines, *self._lines]
            self._moved = self._moved or report.progress is not None


def _fields(fields: Mapping[str, Any]) -> str | None:
    if not fields:
        return None
    try:
        plain = {str(name): _plain(value) for name, value in fields.items()}
        text = json.dumps(inert(plain), ensure_ascii=False, separators=(",", ":"))
    except Exception as error:
        # A log line must never be what makes a handler fail.
        return json.dumps({"fields": f"left out: they cannot be stored ({type(error).__name__})"})
    if len(text.encode()) > _FIELDS_BYTES:
        return json.dumps({"fields": "left out: larger than 4 KiB"})
    return text


def _plain(value: Any) -> Any:
    try:
        return to_jsonable_python(value, fallback=repr)
    except Exception:
        # A cycle, or bytes that are no text: as Python shows it.
        return repr(value)
