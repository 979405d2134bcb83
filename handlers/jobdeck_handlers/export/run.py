"""The course of an export: read a batch, write a batch, and put the file in its place when it is whole."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypedDict, TypeVar

from jobdeck import Context, Discard
from jobdeck_handlers.databases.destination import destination
from jobdeck_handlers.export.csv_lines import CsvWriter
from jobdeck_handlers.export.json_lines import JsonLinesWriter
from jobdeck_handlers.export.naming import file_name
from jobdeck_handlers.export.own_thread import OwnThread, until_ended
from jobdeck_handlers.export.params import ExportParams
from jobdeck_handlers.export.parquet import ParquetWriter, load_pyarrow
from jobdeck_handlers.export.place import Place
from jobdeck_handlers.export.postgres import open_postgres
from jobdeck_handlers.export.rows import Column, Pace, Query, Rows, check_columns
from jobdeck_handlers.export.sink import Sealed, Sink
from jobdeck_handlers.export.sqlite import open_sqlite
from jobdeck_handlers.export.writers import Gzip, Plain, Writer

T = TypeVar("T")

# Seconds between looks for a cancel and for the timeout, whatever the database does meanwhile.
_LOOK: Final = 0.2


class ColumnResult(TypedDict):
    """A column of the file; the type is what the database calls it."""

    name: str
    type: str


class ExportResult(TypedDict):
    """Result of `export`."""

    path: str
    """In the project's own folder."""
    format: str
    rows: int
    bytes: int
    sha256: str
    columns: list[ColumnResult]
    duration_s: float


@dataclass(frozen=True, slots=True)
class _Made:
    rows: int
    columns: Sequence[Column]
    sealed: Sealed


async def run_export(ctx: Context, params: ExportParams) -> ExportResult:
    """Make the file, unless an earlier attempt of the run already has."""
    place = _place(ctx, params)
    with closing(OwnThread()) as thread:
        await thread(place.sweep_earlier)
        published: ExportResult | None = await thread(place.published, ctx.resume)
        if published is not None:
            ctx.log.info("an earlier attempt has made the file", path=published["path"])
            return published
        await thread(place.prepare)
        try:
            return await _export(ctx, params, place, thread)
        finally:
            await thread(place.sweep)


async def _export(ctx: Context, params: ExportParams, place: Place, thread: OwnThread) -> ExportResult:
    began = time.monotonic()
    made = await _watched(ctx, params.timeout, _make(ctx, params, place, thread))
    result = _result(params, place, made, time.monotonic() - began)
    # Refused where another worker has the run by now; and the attempt after a crash finds what this one has done.
    await ctx.checkpoint({"result": result, "mark": made.sealed.mark})
    await thread(place.publish)
    return result


def _place(ctx: Context, params: ExportParams) -> Place:
    folder = ctx.settings.get("files_folder")
    if not folder:
        raise Discard("this worker has no folder for the project's files")
    name = file_name(params.file, params.ending, datetime.now(UTC).date(), ctx.run_id)
    return Place(Path(folder), name, ctx.run_id, ctx.fence, params.overwrite)


async def _watched(ctx: Context, timeout: timedelta, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled with the run or where it takes longer. It has ended in any case."""
    task = asyncio.ensure_future(work)
    give_up = time.monotonic() + timeout.total_seconds()
    try:
        while not task.done():
            ctx.raise_if_cancelled()
            if time.monotonic() > give_up:
                raise TimeoutError("the export took longer than timeout")
            await asyncio.wait({task}, timeout=_LOOK)
        return task.result()
    finally:
        task.cancel()
        await until_ended(task)


async def _make(ctx: Context, params: ExportParams, place: Place, thread: OwnThread) -> _Made:
    arrow = load_pyarrow() if params.format == "parquet" else None
    sink = await thread(place.open, params.max_bytes)
    with closing(sink):
        async with _rows(ctx, params, thread) as rows:
            total = await rows.count() if params.count else None
            if arrow is not None:
                await rows.measure()
            await rows.start()
            check_columns(rows.columns)
            writer = _writer(params, rows.columns, sink, arrow)
            try:
                count = await _copy(ctx, params, rows, writer, total, thread)
                await thread(writer.finish)
            except BaseException:
                writer.abandon()
                raise
            columns = rows.columns
        return _Made(count, columns, await thread(sink.seal))


def _rows(ctx: Context, params: ExportParams, thread: OwnThread) -> AbstractAsyncContextManager[Rows]:
    url = destination(params.target, ctx.settings)
    query = Query(params.query, params.bind, params.timeout)
    if url.get_backend_name() == "sqlite":
        return open_sqlite(Path(str(url.database)), query, thread)
    return open_postgres(url, query)


def _writer(params: ExportParams, columns: Sequence[Column], sink: Sink, arrow: Any) -> Writer:
    if params.format == "parquet":
        return ParquetWriter(arrow, sink, columns)
    out = Gzip(sink) if params.gzip else Plain(sink)
    if params.format == "jsonl":
        return JsonLinesWriter(out, columns)
    names = [column.name for column in columns]
    return CsvWriter(out, names, params.delimiter, spreadsheet_safe=params.spreadsheet_safe)


async def _copy(
    ctx: Context, params: ExportParams, rows: Rows, writer: Writer, total: int | None, thread: OwnThread
) -> int:
    count, pace = 0, Pace()
    while batch := await rows.fetch(pace.rows):
        count += len(batch)
        if params.max_rows is not None and count > params.max_rows:
            raise Discard(f"the query gives more than max_rows, {params.max_rows:,}; nothing is kept")
        pace.took(len(batch), await thread(writer.write, batch))
        ctx.progress(count, total=total, message=f"Exported {count:,} rows")
    return count


def _result(params: ExportParams, place: Place, made: _Made, seconds: float) -> ExportResult:
    return ExportResult(
        path=place.name,
        format=params.format,
        rows=made.rows,
        bytes=made.sealed.size,
        sha256=made.sealed.sha256,
        columns=[ColumnResult(name=column.name, type=column.type) for column in made.columns],
        duration_s=round(seconds, 3),
    )
