"""Shorthand of the tests of `http_sync`."""

from __future__ import annotations

from typing import Any

from jobdeck_handlers.http_sync import SyncResult, http_sync
from tests.handlers.context import RecordingContext

BY_PAGE = {"pagination": {"kind": "page"}}


def users(count: int, start: int = 1) -> list[dict[str, Any]]:
    """`count` records with ids from `start`."""
    return [{"id": n, "name": f"user {n}"} for n in range(start, start + count)]


async def sync(ctx: RecordingContext, url: str, **params: Any) -> SyncResult:
    """Run `http_sync` into the table users with the key id, unless `params` say otherwise."""
    result: SyncResult = await http_sync(
        ctx, http_sync.parse({"url": url, "table": "users", "key": ["id"]} | params)
    )
    return result


def counts(result: SyncResult) -> tuple[int, int, int]:
    """Synced, skipped, failed."""
    return result["synced"], result["skipped"], result["failed"]
