"""Shorthand of the tests of `export`."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from jobdeck import Context, StaleLease
from jobdeck_handlers.export import ExportResult, export
from tests.handlers.context import RUN, RecordingContext


@dataclass
class Exports:
    """A database to read from and the folder that the files come to; `tmp_path` in most tests."""

    url: str
    folder: Path

    @property
    def is_sqlite(self) -> bool:
        return self.url.startswith("sqlite")

    @property
    def settings(self) -> dict[str, Any]:
        return {"data_file_url": self.url, "files_folder": str(self.folder)}

    def attempt(self, **options: Any) -> ExportContext:
        """An attempt of a run of the project."""
        # An export calls nobody.
        return ExportContext(None, options.pop("settings", self.settings), **options)  # type: ignore[arg-type]

    async def run(self, query: str, ctx: Context | None = None, **params: Any) -> ExportResult:
        """Run `export`."""
        parsed = export.parse({"query": query} | params)
        result: ExportResult = await export(ctx or self.attempt(), parsed)
        return result

    async def csv(self, query: str, **params: Any) -> list[list[str]]:
        """The rows of the file as the csv module reads them, the header first."""
        result = await self.run(query, **params)
        text = self.read(result).decode()
        return list(csv.reader(io.StringIO(text, newline=""), delimiter=params.get("delimiter", ",")))

    async def json(self, query: str, **params: Any) -> list[dict[str, Any]]:
        """The objects of the file."""
        result = await self.run(query, format="jsonl", **params)
        return [json.loads(line) for line in self.read(result).decode().splitlines()]

    async def arrow(self, query: str, **params: Any) -> Any:
        """The table in the file."""
        import pyarrow.parquet

        result = await self.run(query, format="parquet", **params)
        return pyarrow.parquet.read_table(self.folder / result["path"])

    def read(self, result: ExportResult) -> bytes:
        """The bytes of the file, uncompressed; those that the result tells of."""
        data = (self.folder / result["path"]).read_bytes()
        assert len(data) == result["bytes"]
        return gzip.decompress(data) if result["path"].endswith(".gz") else data

    @property
    def names(self) -> list[str]:
        """All that is in the folder."""
        return sorted(path.name for path in self.folder.iterdir()) if self.folder.exists() else []


@dataclass
class ExportContext(RecordingContext):
    """Keeps checkpoints; `lost`: another worker has the run by now."""

    run_id: UUID = RUN
    resume: Any = None
    lost: bool = False
    saved: list[Mapping[str, Any]] = field(default_factory=list)

    async def checkpoint(self, state: Any) -> None:
        if self.lost:
            raise StaleLease
        self.saved.append(json.loads(json.dumps(state)))


def numbers(exports: Exports, count: int | None) -> str:
    """A query for the numbers from 1 as n; None: without an end."""
    if not exports.is_sqlite and count is not None:
        return f"SELECT n FROM generate_series(1, {count}) AS n"
    end = "" if count is None else f" WHERE n < {count}"
    return f"WITH RECURSIVE q(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM q{end}) SELECT n FROM q"
