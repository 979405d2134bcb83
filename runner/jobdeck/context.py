"""What a handler is given: the run it works on, and the ways to report, to look for a cancel and to go on later.

Every method can be called from an async handler's loop and from a sync handler's thread; those that wait have a
twin for threads with `_sync` at the end. None of them holds a database connection while the handler runs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from jobdeck.net import GuardedClient


class CancelReason(StrEnum):
    """Why a handler is asked to stop."""

    USER = "user"
    TIMEOUT = "timeout"
    SHUTDOWN = "shutdown"
    LEASE_LOST = "lease_lost"


class RunLog(ABC):
    """Structured log of a run: `ctx.log.info("synced page", page=3)`. `%` in the message is never interpreted."""

    @abstractmethod
    def write(self, level: str, message: str, fields: Mapping[str, Any]) -> None:
        """Add one entry; level is debug, info, warn or error."""

    def debug(self, message: str, **fields: Any) -> None:
        self.write("debug", message, fields)

    def info(self, message: str, **fields: Any) -> None:
        self.write("info", message, fields)

    def warn(self, message: str, **fields: Any) -> None:
        self.write("warn", message, fields)

    def error(self, message: str, **fields: Any) -> None:
        self.write("error", message, fields)


class Context(ABC):
    """One attempt of one run, as its handler sees it."""

    run_id: UUID
    team: str
    """Slug of the team."""
    project: str | None
    """Slug of the project; None for runs outside projects."""
    job_type: str
    attempt: int
    """Which try this is, from 1."""
    fence: int
    """Grows at every claim of this run, never goes back: pass it to systems that can refuse an older writer."""
    log: RunLog
    resume: Any
    """What the last `checkpoint()` of an earlier attempt saved, or None."""
    settings: Mapping[str, Any]
    """The section of the server's configuration that belongs to this job type (`[handlers.<type>]` by name)."""

    @property
    @abstractmethod
    def token(self) -> str:
        """By this, another system ends the run once the handler has raised `Park`; the same for the whole attempt.

        Hand it over before: an end that is told before the run is parked is refused, to be told again in a moment.
        """

    @property
    @abstractmethod
    def http(self) -> GuardedClient:
        """The guarded HTTP client: public addresses only, unless the server's configuration allows more."""

    @property
    @abstractmethod
    def cancelled(self) -> bool:
        """True once this attempt should stop."""

    @property
    @abstractmethod
    def cancel_reason(self) -> CancelReason | None:
        """Why it should stop; None while it need not."""

    @abstractmethod
    def raise_if_cancelled(self) -> None:
        """Raise `Cancelled` once this attempt should stop."""

    @abstractmethod
    def progress(
        self,
        processed: int | None = None,
        *,
        total: int | None = None,
        failed: int | None = None,
        skipped: int | None = None,
        message: str | None = None,
    ) -> None:
        """State how far the run is. What is None stays as it was; `processed` counts failed and skipped too."""

    @abstractmethod
    def trace(self, **seconds: float) -> None:
        """Say what the attempt spends its time on: `ctx.trace(connect=0.02)`. The same name again adds to it.

        At most 16 names like `first_byte`; what is no number of seconds is left out.
        """

    @abstractmethod
    async def sleep(self, seconds: float | timedelta | str) -> None:
        """Wait; wakes at once and raises `Cancelled` when this attempt should stop."""

    @abstractmethod
    def sleep_sync(self, seconds: float | timedelta | str) -> None:
        """`sleep` for a sync handler."""

    @abstractmethod
    async def checkpoint(self, state: Any) -> None:
        """Store `state` (JSON, at most 256 KiB) durably; a later attempt finds it in `resume`.

        Raises StaleLease when the run belongs to another worker by now: stop, and write nothing more.
        """

    @abstractmethod
    def checkpoint_sync(self, state: Any) -> None:
        """`checkpoint` for a sync handler."""

    @abstractmethod
    async def verify_lease(self) -> None:
        """Ask the database whether this attempt still holds its run. Raises StaleLease where it does not.

        Call it just before an effect outside that must not happen twice and that cannot check `fence` itself.
        """

    @abstractmethod
    async def enqueue(self, job_type: str, params: Mapping[str, Any] | None = None, **options: Any) -> UUID:
        """Make a child run in the same team and project; its id. Options as of `Client.trigger`."""

    @abstractmethod
    def enqueue_sync(self, job_type: str, params: Mapping[str, Any] | None = None, **options: Any) -> UUID:
        """`enqueue` for a sync handler."""
