"""A target database as a test looks at it: over a connection of its own, without the code under test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, create_engine, inspect, make_url, text
from sqlalchemy.pool import NullPool


@dataclass
class Database:
    """One database; `url` is what a handler is given."""

    url: str

    @property
    def kind(self) -> str:
        return make_url(self.url).get_backend_name()

    @property
    def engine(self) -> Engine:
        url = make_url(self.url)
        return create_engine(
            url.set(drivername="postgresql+psycopg") if self.kind == "postgresql" else url, poolclass=NullPool
        )

    def execute(self, statement: str) -> None:
        with self.engine.begin() as conn:
            conn.execute(text(statement))

    def rows(self, statement: str) -> list[dict[str, Any]]:
        """The rows of a query."""
        with self.engine.begin() as conn:
            return [dict(row) for row in conn.execute(text(statement)).mappings()]

    def column(self, statement: str) -> list[Any]:
        """The first column of a query."""
        return [next(iter(row.values())) for row in self.rows(statement)]

    def count(self, table: str) -> int:
        return int(self.column(f"SELECT count(*) FROM {table}")[0])

    def types(self, table: str) -> dict[str, str]:
        """The declared type of each column."""
        return {each["name"]: str(each["type"]) for each in inspect(self.engine).get_columns(table)}

    def tables(self) -> set[str]:
        return set(inspect(self.engine).get_table_names())
