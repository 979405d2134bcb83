"""jobdeck: you write a typed handler, jobdeck runs it durably, operators see and steer every run in a terminal.

This is the whole API for authors of handlers. Names are loaded on first use, so that `import jobdeck` costs
nothing for a command that needs none of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jobdeck import limits
    from jobdeck.context import CancelReason, Context, RunLog
    from jobdeck.durations import Duration
    from jobdeck.errors import JobdeckError, StaleLease, ValidationError
    from jobdeck.net import GuardedClient, HostBusy, HttpError, HttpResponse, check_headers
    from jobdeck.notifiers import Notification
    from jobdeck.outcome import Cancelled, Discard, Park, Retry, Snooze
    from jobdeck.process import SupervisedProcess
    from jobdeck.retry import Backoff, Growth
    from jobdeck.secret import Secret
    from jobdeck.spec import HandlerSpec, handler

__version__ = "0.1.0"

_HOMES = {
    "Backoff": "jobdeck.retry",
    "CancelReason": "jobdeck.context",
    "Cancelled": "jobdeck.outcome",
    "Context": "jobdeck.context",
    "Discard": "jobdeck.outcome",
    "Duration": "jobdeck.durations",
    "Growth": "jobdeck.retry",
    "GuardedClient": "jobdeck.net",
    "HandlerSpec": "jobdeck.spec",
    "HostBusy": "jobdeck.net",
    "HttpError": "jobdeck.net",
    "HttpResponse": "jobdeck.net",
    "JobdeckError": "jobdeck.errors",
    "Notification": "jobdeck.notifiers",
    "Park": "jobdeck.outcome",
    "Retry": "jobdeck.outcome",
    "RunLog": "jobdeck.context",
    "Secret": "jobdeck.secret",
    "Snooze": "jobdeck.outcome",
    "StaleLease": "jobdeck.errors",
    "SupervisedProcess": "jobdeck.process",
    "ValidationError": "jobdeck.errors",
    "check_headers": "jobdeck.net",
    "handler": "jobdeck.spec",
}

__all__ = [
    "Backoff",
    "CancelReason",
    "Cancelled",
    "Context",
    "Discard",
    "Duration",
    "Growth",
    "GuardedClient",
    "HandlerSpec",
    "HostBusy",
    "HttpError",
    "HttpResponse",
    "JobdeckError",
    "Notification",
    "Park",
    "Retry",
    "RunLog",
    "Secret",
    "Snooze",
    "StaleLease",
    "SupervisedProcess",
    "ValidationError",
    "__version__",
    "check_headers",
    "handler",
    "limits",
]


def __getattr__(name: str) -> Any:
    if name == "limits":
        return import_module("jobdeck.limits")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'jobdeck' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
