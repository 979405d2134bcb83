"""Mode replace: records gather in a staging table of the run, and become the content of the table in one step."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, delete, insert, select
from sqlalchemy.schema import DropTable
from sqlalchemy.schema import MetaData as _MetaData
from sqlalchemy.schema import Table as _Table

from jobdeck_handlers.http_sync.columns import change
from jobdeck_handlers.http_sync.naming import column_names
from jobdeck_handlers.http_sync.shape import read_shape


def name_of(run_id: str) -> str:
    """The staging table of a run, by the run's id in hex."""
    return f"_jobdeck_stage_{run_id}"


def drop(conn: Connection, run_id: str) -> None:
    """Remove the staging table of a run, if there is one."""
    conn.execute(DropTable(_Table(name_of(run_id), _MetaData()), if_exists=True))


def swap(conn: Connection, table: str, run_id: str, key: Sequence[str]) -> None:
    """Make the staged records the whole content of the table.

    The table itself stays, with the views, rights and indexes that people have made for it; only its rows go.
    """
    staged = read_shape(conn, name_of(run_id))
    shape = read_shape(conn, table)
    if staged is not None:
        names = column_names(key, staged.columns)
        shape = change(conn, shape, table, list(staged.columns.values()), [names[field] for field in key])
    if shape is None:
        return
    conn.execute(delete(shape.clause()))
    if staged is not None:
        source = staged.clause()
        columns = list(staged.columns)
        conn.execute(
            insert(shape.clause()).from_select(columns, select(*(source.c[each] for each in columns)))
        )
    drop(conn, run_id)
