"""What a handler, or a library it uses, says through the standard `logging` goes to the run's log."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from jobdeck.context import Context

current: ContextVar[Context | None] = ContextVar("jobdeck_context", default=None)
"""The attempt that the running code belongs to; None outside handlers."""

_OWN = "jobdeck."
_LEVELS = ((logging.ERROR, "error"), (logging.WARNING, "warn"), (logging.INFO, "info"))


class RunLogHandler(logging.Handler):
    """Passes records of handler code on to `ctx.log`; the worker's own records are left alone."""

    def emit(self, record: logging.LogRecord) -> None:
        ctx = current.get()
        if ctx is None or record.name.startswith(_OWN):
            return
        try:
            fields: dict[str, Any] = {"logger": record.name}
            if record.exc_info and record.exc_info[0] is not None:
                fields["exception"] = f"{record.exc_info[0].__name__}: {record.exc_info[1]}"
            ctx.log.write(_level(record.levelno), record.getMessage(), fields)
        except Exception:
            self.handleError(record)


class _Attachment:
    """One handler on the root logger, however many workers a process has: each record is to be stored once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._handler = RunLogHandler()
        self._users = 0
        self._level = logging.NOTSET

    def add(self) -> None:
        with self._lock:
            self._users += 1
            if self._users == 1:
                root = logging.getLogger()
                self._level = root.level
                root.addHandler(self._handler)
                root.setLevel(min(root.level or logging.INFO, logging.INFO))

    def remove(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                root = logging.getLogger()
                root.removeHandler(self._handler)
                root.setLevel(self._level)


_attachment = _Attachment()


@contextmanager
def capturing() -> Iterator[None]:
    """Capture inside the block; the root logger's level is INFO there, so that libraries' info lines arrive."""
    _attachment.add()
    try:
        yield
    finally:
        _attachment.remove()


def _level(number: int) -> str:
    return next((name for least, name in _LEVELS if number >= least), "debug")
