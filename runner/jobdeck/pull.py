"""Runs in the hands of programs that are no workers: pull queues, the tokens that end their runs, and what is told.

A run that was claimed from a pull queue, or that its handler has parked, is held by whoever knows its token.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from jobdeck.ids import show_id
from jobdeck.states import Status

_PREFIX: Final = "ack_"
_RANDOM_BYTES: Final = 16
"""128 bits: nobody guesses one (reliability.md, S8)."""


def new_token() -> str:
    """A token as it is handed out; it is stored nowhere."""
    return _PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)


def token_hash(token: str) -> str:
    """What is stored of a token and compared. Whoever reads it there cannot make the token of it.

    A plain digest is enough for 128 random bits. It also makes the time that a comparison takes harmless: it tells
    how much of a digest is right, and nobody can choose a token by its digest.
    """
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class Queue:
    """A lane of a team's runs: declared, or there because runs name it."""

    name: str
    pull: bool
    """Whether programs claim its runs, and workers never take them."""
    declared: bool
    description: str
    waiting: int
    """Runs that have not begun, whatever they wait for."""
    running: int
    oldest_due_at: datetime | None
    """When the run was due that waits the longest; of those that are due."""
    max_concurrency: int | None = None
    """Runs of it that run at a time, on all workers together; None: as many as there are slots."""
    created_at: datetime | None = None
    created_by: str | None = None


@dataclass(frozen=True, slots=True)
class ClaimedWork:
    """A run that now belongs to the program that claimed it, until `lease_until`."""

    run_id: UUID
    job_type: str
    queue: str
    project: str | None
    attempt: int
    params: Mapping[str, Any]
    """As they are stored: what is `secret://NAME` stays that."""
    token: str
    """Told this once. Only who shows it may end the run."""
    lease_until: datetime
    resume: Any = None
    """What an earlier attempt has saved as its checkpoint."""

    @property
    def shown_id(self) -> str:
        return show_id("run", self.run_id)


@dataclass(frozen=True, slots=True)
class AckReply:
    """What became of a run whose attempt its holder has ended."""

    run_id: UUID
    status: Status
    due_at: datetime | None
    """When it goes on, where it does."""
    cancel_requested: bool


@dataclass(frozen=True, slots=True)
class ExtendReply:
    """Until when its holder has the run now."""

    run_id: UUID
    lease_until: datetime
    cancel_requested: bool
    """Somebody has asked the run to stop: end it soon."""
