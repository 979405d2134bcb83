"""What an answer of a host, or the lack of one, means for a run: is asking again of any use, and when."""

from __future__ import annotations

import random
from typing import Final

from jobdeck import Backoff, HostBusy, HttpResponse, Snooze

TURN_SECONDS: Final = 5.0
"""How long a run waits in its slot for a turn at the host; then the slot is for runs that work with other hosts."""
# Request Timeout, Too Early and Too Many Requests: the only client errors (4xx) that may pass by themselves.
_PASSING: Final = frozenset({408, 425, 429})
_SNIPPET: Final = 200
# Of runs that found no turn, until the next try: a host that answers in seconds is soon free again.
_TURN_BACKOFF: Final = Backoff(base=2.0, factor=2.0, cap=15.0)
_SPREAD_MAX: Final = 60.0


def may_pass(status: int) -> bool:
    """Whether the same request may succeed later: a server's error, or one of 408, 425, 429."""
    return status >= 500 or status in _PASSING


def spread(seconds: float) -> float:
    """Not before the time a server has asked for, and at a random one after it: up to as long again, or a minute.

    So those that were turned away together do not come back together.
    """
    return seconds + random.uniform(0.0, min(seconds, _SPREAD_MAX))


def step_aside(error: HostBusy, attempt: int) -> Snooze:
    """The outcome of an attempt that could not ask: later, without counting as a failure."""
    wait = error.retry_after
    delay = _TURN_BACKOFF.delay(attempt, random.Random()) if wait is None else spread(wait)
    return Snooze(delay, str(error))


def describe(response: HttpResponse) -> str:
    """`answered 404: {"detail":"Not found"}`, with the beginning of the body."""
    body = " ".join(response.body[: 4 * _SNIPPET].decode(errors="replace").split())
    if len(body) > _SNIPPET:
        body = body[:_SNIPPET] + "…"
    return f"answered {response.status}" + (f": {body}" if body else "")
