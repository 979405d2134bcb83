"""`http_sync`: pulls a paginated JSON source into a SQL table, and goes on after a crash where it stopped."""

from __future__ import annotations

from jobdeck import Context, handler
from jobdeck_handlers.http_sync.params import SyncParams
from jobdeck_handlers.http_sync.sync import SyncResult, run_sync

__all__ = ["SyncParams", "SyncResult", "http_sync"]


def _flight_key(params: SyncParams) -> str:
    return params.flight_key


@handler("http_sync", title="HTTP sync", category="sync", single_flight=_flight_key, max_attempts=5)
async def http_sync(ctx: Context, params: SyncParams) -> SyncResult:
    """Pull a paginated JSON REST source into a SQL table.

    A page of records and the checkpoint after it are one transaction of the target, so that a retry goes on where
    an attempt stopped, a worker that lost its lease writes nothing more, and no record is written twice.
    """
    return await run_sync(ctx, params)
