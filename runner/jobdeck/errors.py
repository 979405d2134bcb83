"""Every error jobdeck raises on purpose, with a stable code and the exit code of the command line.

JobdeckError
├── ValidationError          2   the request is wrong; nothing was stored
│   ├── UnknownJobType       2
│   └── ConfigError          2
├── NotFound                 3   unknown, or belongs to another team (the two look the same)
├── Conflict                 4   the state of the world refuses it
│   ├── AlreadyActive        4   single flight, dedupe key: carries the existing run
│   ├── JobDisabled          4   the saved job is disabled
│   ├── VersionConflict      4   the saved job has another version by now
│   ├── IdempotencyMismatch  4   the key stands for another request: carries its run
│   ├── NotParked            4   the run is still with its worker
│   ├── PartlyRefused        4   carries the runs that are stored
│   └── NotCancellable       4
├── StaleLease               5   the lease or token is no longer the current one
├── Forbidden                6
└── DatabaseError            7
    ├── DatabaseUnavailable  7   nothing was stored
    │   ├── DatabaseRefused  7   waiting does not help
    │   ├── OutcomeUnknown   7   nobody knows whether it was stored
    │   └── PartlyStored     7   carries the runs that were
    ├── DatabaseFull         7
    └── WrongRevision        7   carries the command that mends it
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class JobdeckError(Exception):
    """Base of all errors raised on purpose. The message says what is wrong and what to do about it."""

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or type(self).__name__).strip().splitlines()[0])

    @property
    def message(self) -> str:
        return str(self)

    def details(self) -> dict[str, object]:
        """Facts beside the message for `--json`: code, and whatever the subclass adds."""
        return {"code": self.code, "message": self.message}


class ValidationError(JobdeckError):
    """The request is not valid; nothing was stored."""

    code = "invalid"
    exit_code = 2

    def __init__(self, message: str | None = None, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field

    def details(self) -> dict[str, object]:
        return super().details() | ({"field": self.field} if self.field else {})


class UnknownJobType(ValidationError):
    """No worker and no installed package has ever registered this job type."""

    code = "unknown_job_type"


class ConfigError(ValidationError):
    """The configuration is not valid."""

    code = "config"


class NotFound(JobdeckError):
    """No such thing in this team."""

    code = "not_found"
    exit_code = 3


class Conflict(JobdeckError):
    """The request conflicts with the current state."""

    code = "conflict"
    exit_code = 4


class AlreadyActive(Conflict):
    """A run of this type is already pending or running in this project."""

    code = "already_active"

    def __init__(self, message: str, *, existing_run_id: str) -> None:
        super().__init__(message)
        self.existing_run_id = existing_run_id

    def details(self) -> dict[str, object]:
        return super().details() | {"existing_run_id": self.existing_run_id}


class IdempotencyMismatch(AlreadyActive):
    """The idempotency key stands for another request."""

    code = "idempotency_mismatch"


class JobDisabled(Conflict):
    """The saved job is disabled."""

    code = "job_disabled"


class VersionConflict(Conflict):
    """The saved job has been changed meanwhile."""

    code = "version_conflict"

    def __init__(self, message: str, *, version: int) -> None:
        super().__init__(message)
        self.version = version

    def details(self) -> dict[str, object]:
        return super().details() | {"version": self.version}


class NotCancellable(Conflict):
    """The run has already ended."""

    code = "not_cancellable"

    def __init__(self, message: str, *, status: str) -> None:
        super().__init__(message)
        self.status = status

    def details(self) -> dict[str, object]:
        return super().details() | {"status": self.status}


class NotParked(Conflict):
    """A worker has the run; it can be ended by a token once its handler has parked it. Try again in a moment."""

    code = "not_parked"


class PartlyRefused(Conflict):
    """Some of the runs are stored and others refused; `run_ids` are those that are stored."""

    code = "partly_refused"

    def __init__(self, message: str, *, run_ids: Sequence[str]) -> None:
        super().__init__(message)
        self.run_ids = list(run_ids)

    def details(self) -> dict[str, object]:
        return super().details() | {"run_ids": self.run_ids}


class StaleLease(JobdeckError):
    """The lease on this run was lost; another worker may hold it now."""

    code = "stale_lease"
    exit_code = 5


class Forbidden(JobdeckError):
    """Not allowed."""

    code = "forbidden"
    exit_code = 6

    def __init__(self, message: str | None = None, *, permission: str | None = None) -> None:
        super().__init__(message)
        self.permission = permission

    def details(self) -> dict[str, object]:
        return super().details() | ({"permission": self.permission} if self.permission else {})


class DatabaseError(JobdeckError):
    """The database refused or failed."""

    code = "database"
    exit_code = 7


class DatabaseUnavailable(DatabaseError):
    """The database cannot be reached."""

    code = "database_unavailable"


class DatabaseRefused(DatabaseUnavailable):
    """The database is there and lets nobody in like this: no such name, no right, a file that cannot be used."""

    code = "database_refused"


class OutcomeUnknown(DatabaseUnavailable):
    """The connection broke while this was being stored, and the database has not come back to say whether it was."""

    code = "outcome_unknown"

    def __init__(self, message: str | None = None, *, run_ids: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.run_ids = list(run_ids)

    def details(self) -> dict[str, object]:
        return super().details() | ({"run_ids": self.run_ids} if self.run_ids else {})


class PartlyStored(DatabaseUnavailable):
    """Some of the runs are stored, and then the database was lost; `run_ids` are those that are stored."""

    code = "partly_stored"

    def __init__(self, message: str, *, run_ids: Sequence[str]) -> None:
        super().__init__(message)
        self.run_ids = list(run_ids)

    def details(self) -> dict[str, object]:
        return super().details() | {"run_ids": self.run_ids}


class DatabaseFull(DatabaseError):
    """The disk of the database is full; free some space, running work goes on by itself."""

    code = "database_full"


class WrongRevision(DatabaseError):
    """The database has another schema revision than this jobdeck."""

    code = "wrong_revision"
