"""Clients of one team, beside which some handlers are installed and others are known by their workers only."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from jobdeck.client import Client
from jobdeck.client.session import Session
from jobdeck.context import Context
from jobdeck.model import JobType, Project
from jobdeck.spec import HandlerSpec, handler
from tests.store.deck import Deck


class SyncParams(BaseModel):
    """What the local handler `sync` takes."""

    model_config = ConfigDict(extra="allow")
    source: str = "crm"
    pages: int = Field(default=1, ge=1)


@handler("sync", title="Sync", category="sync", max_attempts=4, timeout="10m")
async def sync(ctx: Context, params: SyncParams) -> None:
    """Installed beside the client."""


@handler("single", single_flight=lambda params: params.source)
async def single(ctx: Context, params: SyncParams) -> None:
    """One run for each source."""


@handler("system.cleanup", scope="system")
async def cleanup(ctx: Context) -> None:
    """Nobody may start it by hand."""


@handler("team_report", scope="team")
async def team_report(ctx: Context) -> None:
    """Belongs to no project."""


SPECS: dict[str, HandlerSpec] = {spec.job_type: spec for spec in (sync, single, cleanup, team_report)}

REMOTE = JobType(
    name="remote",
    title="Remote",
    category="export",
    scope="project",
    schema={
        "type": "object",
        "properties": {"source": {"type": "string"}, "pages": {"type": "integer", "minimum": 1}},
        "required": ["source"],
        "additionalProperties": False,
    },
    defaults={"max_attempts": 2, "timeout_s": 60.0, "single_flight": True},
    package="acme-jobs",
    version="1.0",
)
"""A type that only its workers know."""


def client_of(deck: Deck, *, actor: str = "ada", **changes: Any) -> Client:
    """A client of the deck's team and project."""
    project: Project | None = changes.get("project", deck.project)
    return Client(Session(deck.database, deck.scope, project, actor, SPECS.get))
