"""`export`: the rows of one SQL query, as a CSV, JSON Lines or Parquet file that is there whole or not at all."""

from __future__ import annotations

from jobdeck import Context, handler
from jobdeck_handlers.export.params import ExportParams
from jobdeck_handlers.export.run import ExportResult, run_export

__all__ = ["ExportParams", "ExportResult", "export"]


@handler("export", title="Export", category="export")
async def export(ctx: Context, params: ExportParams) -> ExportResult:
    """Write the rows of one SQL query to a CSV, JSON Lines or Parquet file.

    The query only reads, and the database holds it to that. The file appears under its name once it is complete and
    on the disk; an attempt that fails or is cancelled leaves nothing behind.
    """
    return await run_export(ctx, params)
