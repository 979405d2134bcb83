"""The loop of `http_sync`: a page from the source, then one transaction of the target, until there are no more."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, TypedDict

from sqlalchemy import Connection

from jobdeck import Context
from jobdeck_handlers.databases.destination import destination, refuse_own
from jobdeck_handlers.databases.target import open_target
from jobdeck_handlers.http_sync import checkpoint as checkpoints
from jobdeck_handlers.http_sync import staging
from jobdeck_handlers.http_sync.checkpoint import Checkpoint, State
from jobdeck_handlers.http_sync.columns import fit
from jobdeck_handlers.http_sync.params import SyncParams
from jobdeck_handlers.http_sync.records import newest, sort_out
from jobdeck_handlers.http_sync.shape import read_shape
from jobdeck_handlers.http_sync.source import Page, Source
from jobdeck_handlers.http_sync.write import Written, write

# Reasons are often the same for a whole page; the counts say how many there were.
_REASONS_LOGGED: Final = 5


class SyncResult(TypedDict):
    """Result of `http_sync`: counts of records, over all attempts of the run."""

    synced: int
    skipped: int
    failed: int
    total: int
    pages: int
    table: str


@dataclass(frozen=True, slots=True)
class _Stored:
    checkpoint: Checkpoint
    refused: Sequence[str]


async def run_sync(ctx: Context, params: SyncParams) -> SyncResult:
    """Bring the table up to the source, from where an earlier attempt of the run stopped."""
    async with open_target(destination(params.target, ctx.settings)) as target:
        held = await target.transact(partial(_begin, ctx=ctx, params=params))
        source = Source(ctx, params, held.state.since)
        if held.seq:
            ctx.log.info("going on where an earlier attempt stopped", pages=held.state.pages)
            _report(ctx, params, held.state)
        while not held.state.done:
            ctx.raise_if_cancelled()
            page = await source.page(held.state.position, held.state.processed)
            ctx.raise_if_cancelled()
            stored = await target.transact(partial(_store, held=held, page=page, params=params))
            held = stored.checkpoint
            _report(ctx, params, held.state)
            for reason in stored.refused[:_REASONS_LOGGED]:
                ctx.log.warn("record not stored", reason=reason, page=held.state.pages)
    return _result(params, held.state)


def _begin(conn: Connection, *, ctx: Context, params: SyncParams) -> Checkpoint:
    refuse_own(conn)
    return checkpoints.take_over(conn, ctx.run_id, ctx.fence, params)


def _store(conn: Connection, *, held: Checkpoint, page: Page, params: SyncParams) -> _Stored:
    """One page and its checkpoint. Raises StaleLease, storing nothing, where the run belongs to another by now."""
    begun = checkpoints.step(conn, held)
    records = sort_out(page.records, params.key)
    written = _write(conn, held, records.good, params) if records.good else Written()
    refused = [*records.refused, *written.refused]
    state = _next_state(held.state, page, written, len(refused), params)
    if params.since_field:
        state = replace(state, newest=newest(state.newest, records.good, params.since_field))
    if state.done and params.mode == "replace":
        staging.swap(conn, params.table, held.run_id, params.key)
    # Only a sync that has seen everything knows that nothing older than its newest record is missing.
    if state.done and page.following is None and state.newest is not None:
        checkpoints.publish(conn, params, state.newest)
    return _Stored(checkpoints.save(conn, begun, state), refused)


def _write(conn: Connection, held: Checkpoint, records: Sequence[Any], params: SyncParams) -> Written:
    if params.mode != "replace":
        return write(conn, fit(conn, params.table, records, params.key), records, params.key, params.mode)
    # The columns are typed as those of the table, so that what it would not take is found here, record by record.
    fitted = fit(conn, staging.name_of(held.run_id), records, params.key, read_shape(conn, params.table))
    return write(conn, fitted, records, params.key, "upsert")


def _next_state(state: State, page: Page, written: Written, failed: int, params: SyncParams) -> State:
    # The empty page that ends a numbered sequence is no page of the source.
    pages = state.pages + (1 if page.records or page.following is not None else 0)
    return replace(
        state,
        position=page.following,
        synced=state.synced + written.synced,
        skipped=state.skipped + written.skipped,
        failed=state.failed + failed,
        pages=pages,
        stated_total=state.stated_total if page.total is None else page.total,
        done=page.following is None or pages >= (params.max_pages or math.inf),
    )


def _report(ctx: Context, params: SyncParams, state: State) -> None:
    message = f"Synced {state.synced} {params.table}, {state.skipped} skipped"
    if state.failed:
        message += f", {state.failed} failed"
    ctx.progress(
        state.processed, total=state.total, failed=state.failed, skipped=state.skipped, message=message
    )


def _result(params: SyncParams, state: State) -> SyncResult:
    return SyncResult(
        synced=state.synced,
        skipped=state.skipped,
        failed=state.failed,
        total=state.processed if state.total is None else state.total,
        pages=state.pages,
        table=params.table,
    )
