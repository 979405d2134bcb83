"""The audit as it is read: what people did or were refused, and whether the record of it is whole."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any


class AuditOutcome(StrEnum):
    """What became of an act."""

    DONE = "done"
    DENIED = "denied"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One act of somebody, or the part of it that was stored in one transaction."""

    id: str
    at: datetime
    actor: str
    session_user: str
    """Who the database (PostgreSQL) or the operating system (SQLite) says it was."""
    action: str
    """Like `run.cancel`."""
    outcome: AuditOutcome
    code: str | None
    """That of the error."""
    count: int
    """How many things it was done to."""
    targets: tuple[str, ...]
    """The first of them."""
    reason: str | None
    before: Any
    """What the act has changed, as it was; a list where there are several targets."""
    after: Any


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which acts a list shows; all parts must hold."""

    actor: str | None = None
    action: str | None = None
    """A whole action, or what stands before its dot."""
    outcome: AuditOutcome | None = None
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class AuditFault:
    """Something that is not as it was sealed."""

    seal: int | None
    text: str


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What checking the whole record has found."""

    rows: int
    unsealed: int
    """Rows so young that no seal holds them yet."""
    seals: int
    head: str
    """The hash of the last seal: who has noted it elsewhere would notice a chain that was made anew."""
    faults: tuple[AuditFault, ...]

    @property
    def ok(self) -> bool:
        return not self.faults


def digest(text: str) -> str:
    """What stands in the audit for a text that must not stand there itself."""
    return "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
