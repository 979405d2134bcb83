"""What the console needs of a client: `jobdeck.client.Client` has it, and so has the fake of the tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol
from uuid import UUID

from jobdeck.model import (
    CancelReply,
    JobType,
    LogEntry,
    Project,
    Run,
    RunFilter,
    RunKey,
    RunStretch,
    TeamScope,
    Worker,
)


class RunsPort(Protocol):
    """Runs of the team. Methods raise `jobdeck.errors.JobdeckError`."""

    async def trigger(
        self, job_type: str, params: Mapping[str, Any] | None = None, **options: Any
    ) -> Run: ...

    async def page(
        self,
        chosen: RunFilter,
        /,
        *,
        after: RunKey | None = None,
        before: RunKey | None = None,
        last: bool = False,
        limit: int = 200,
    ) -> RunStretch: ...

    async def by_ids(self, ids: Sequence[UUID], /) -> list[Run]: ...

    async def show(self, run_id: UUID, /) -> Run: ...

    async def logs(self, run_id: UUID, /, *, after: int = 0, limit: int = 1_000) -> list[LogEntry]: ...

    async def log_tail(self, run_id: UUID, /, limit: int = 200) -> list[LogEntry]: ...

    async def cancel(self, run_id: UUID, /, *, reason: str | None = None) -> CancelReply: ...

    async def retry(self, run_id: UUID, /, *, reason: str | None = None) -> Run: ...

    async def approve(
        self, run_id: UUID, /, *, reason: str | None = None, seen: str | None = None
    ) -> Run: ...

    async def reject(self, run_id: UUID, /, *, reason: str, seen: str | None = None) -> Run: ...

    async def counts(self) -> dict[str, int]: ...


class WorkersPort(Protocol):
    """The fleet."""

    async def list(self) -> list[Worker]: ...


class TypesPort(Protocol):
    """The job types."""

    async def list(self) -> list[JobType]: ...


class ClientPort(Protocol):
    """A team, an actor, and what can be done."""

    @property
    def runs(self) -> RunsPort: ...

    @property
    def workers(self) -> WorkersPort: ...

    @property
    def types(self) -> TypesPort: ...

    @property
    def scope(self) -> TeamScope: ...

    @property
    def project(self) -> Project | None: ...

    async def changed(self, timeout: float) -> bool: ...
