"""Hints: a commit tells whoever waits that it is worth looking again. A lost hint costs a poll interval, no more."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from jobdeck.store.transaction import Hint

_log = logging.getLogger("jobdeck.store.signals")

Listener = Callable[[Hint], None]


@dataclass(frozen=True, slots=True)
class Deafness:
    """Why the hints of other processes do not come: what is wrong, and what mends it. Until then polls do it all."""

    says: str
    mend: str


class Signals:
    """Fans hints out to the listeners of this process. Thread-safe; listeners must not block."""

    def __init__(self) -> None:
        self._listeners: set[Listener] = set()
        self._lock = threading.Lock()

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with every hint, from any thread; the answer ends that."""
        with self._lock:
            self._listeners.add(listener)
        return lambda: self._forget(listener)

    def _forget(self, listener: Listener) -> None:
        with self._lock:
            self._listeners.discard(listener)

    def publish(self, hints: Hint) -> None:
        """Tell every listener."""
        if not hints:
            return
        with self._lock:
            listeners = list(self._listeners)
        for listener in listeners:
            try:
                listener(hints)
            except RuntimeError:
                # Its loop has closed meanwhile.
                continue
            except Exception:
                # Must not hurt the one who committed.
                _log.exception("a listener of hints failed")
