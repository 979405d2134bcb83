"""What people did in the client's team, and whether the record of it is whole."""

from __future__ import annotations

from jobdeck.audit import AuditEntry, AuditFilter, AuditReport
from jobdeck.client.guard import needs
from jobdeck.client.session import Session
from jobdeck.errors import ValidationError
from jobdeck.limits import PAGE_DEFAULT, PAGE_MAX
from jobdeck.people import Permission
from jobdeck.store.audit.check import check_audit
from jobdeck.store.audit.log import list_acts


class AuditApi:
    """The audit. Nothing is changed or deleted in it."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @needs(Permission.JOBS_READ)
    async def list(self, chosen: AuditFilter | None = None, *, limit: int = PAGE_DEFAULT) -> list[AuditEntry]:
        """Acts in the team, newest first. Raises ValidationError."""
        if not 1 <= limit <= PAGE_MAX:
            raise ValidationError(f"a list has 1 to {PAGE_MAX} acts, not {limit}", field="limit")
        session = self._session
        return await session.database.read(list_acts, session.scope, chosen or AuditFilter(), limit)

    @needs(Permission.JOBS_READ)
    async def verify(self) -> AuditReport:
        """Check the audit of the whole installation against its seals; it is one chain for all teams.

        What rows of other teams say is not told.
        """
        return await self._session.database.read(check_audit, self._session.scope.team_id)
