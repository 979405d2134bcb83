"""`export`: what is asked, what comes out of it, and how it ends."""

from __future__ import annotations

import hashlib
import threading
import time
import tracemalloc
from typing import Any

import pytest
from sqlalchemy import make_url

from jobdeck import Cancelled, CancelReason, Discard, ValidationError
from jobdeck.testing import run_handler
from jobdeck_handlers.export import export
from tests.handlers.databases import Database
from tests.handlers.exporting import ExportContext, Exports, numbers

PEOPLE = [
    (1, "Ada", 1.5),
    (2, 'says "hi"\r\nand goes; on, and\ton', None),
    (3, "", -0.25),
    (4, None, 1e300),
    (5, " Zoë 🚀 ", 0.1),
]


@pytest.fixture
def people(database: Database) -> Database:
    """The database with a table in it."""
    database.execute("CREATE TABLE people (id INTEGER, name TEXT, score DOUBLE PRECISION)")
    with database.engine.begin() as conn:
        for person in PEOPLE:
            marks = "?, ?, ?" if database.kind == "sqlite" else "%s, %s, %s"
            conn.exec_driver_sql(f"INSERT INTO people VALUES ({marks})", person)
    return database


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize("gzip", [False, True])
async def test_csv_read_back(exports: Exports, gzip: bool) -> None:
    """The csv module reads what was in the table, with NULL as an empty field."""
    rows = await exports.csv("SELECT * FROM people ORDER BY id", gzip=gzip)
    assert rows[0] == ["id", "name", "score"]
    wanted = [["" if value is None else str(value) for value in person] for person in PEOPLE]
    assert rows[1:] == wanted
    assert exports.names[0].endswith(".csv.gz" if gzip else ".csv")


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize("gzip", [False, True])
async def test_json_lines_read_back(exports: Exports, gzip: bool) -> None:
    """An object a line, equal to the rows."""
    rows = await exports.json("SELECT * FROM people ORDER BY id", gzip=gzip)
    assert [tuple(row.values()) for row in rows] == PEOPLE
    assert list(rows[0]) == ["id", "name", "score"]


@pytest.mark.usefixtures("people")
async def test_parquet_read_back(exports: Exports) -> None:
    """A table of typed columns, equal to the rows."""
    table = await exports.arrow("SELECT * FROM people ORDER BY id")
    assert [tuple(row.values()) for row in table.to_pylist()] == PEOPLE
    integer = "int64" if exports.is_sqlite else "int32"
    assert [str(each.type) for each in table.schema] == [integer, "string", "double"]


@pytest.mark.usefixtures("people")
async def test_the_result(exports: Exports) -> None:
    """It says where the file is, what is in it, and the sum to check it by."""
    result = await exports.run("SELECT id, name FROM people", file="people-{date}-{run}", format="jsonl")
    assert result["rows"] == len(PEOPLE)
    assert result["format"] == "jsonl"
    assert result["path"].startswith("people-20")
    assert result["path"].endswith("-01890000-0000-7000-8000-000000000001.jsonl")
    assert result["sha256"] == hashlib.sha256((exports.folder / result["path"]).read_bytes()).hexdigest()
    types = ["integer", "text"] if exports.is_sqlite else ["int4", "text"]
    assert result["columns"] == [{"name": "id", "type": types[0]}, {"name": "name", "type": types[1]}]
    assert result["duration_s"] >= 0
    assert exports.names == [result["path"]]


@pytest.mark.usefixtures("people")
async def test_under_the_real_executor(exports: Exports) -> None:
    """Params, settings, progress, checkpoint and result pass as they do in a worker."""
    done = await run_handler(
        export,
        {"query": "SELECT * FROM people", "count": True, "format": "parquet"},
        settings=exports.settings,
    )
    assert (done.outcome, done.error) == ("completed", None)
    assert done.result["rows"] == 5
    assert (done.progress.processed, done.progress.total) == (5, 5)
    assert done.progress.message == "Exported 5 rows"


@pytest.mark.parametrize("format", ["csv", "jsonl", "parquet"])
async def test_no_rows(exports: Exports, format: str) -> None:
    """A query without rows makes a file that says so: a header, nothing, or a schema."""
    query = "SELECT 1 AS a, 'x' AS b WHERE 1 = 0"
    result = await exports.run(query, format=format)
    assert result["rows"] == 0
    if format == "parquet":
        table = await exports.arrow(query, overwrite=True)
        assert (table.num_rows, table.column_names) == (0, ["a", "b"])
    else:
        assert exports.read(result) == (b"a,b\r\n" if format == "csv" else b"")


async def test_values_are_bound(exports: Exports) -> None:
    """`:name` takes a value of any JSON type, is never read as SQL, and stays what it is inside text and comments."""
    hostile = "'; DROP TABLE people; --"
    text = "SELECT :a AS a, :n + 1 AS n, :a AS again, ':a' AS quoted, 1 AS \":n\" /* :x */ -- :y"
    cast = (
        text
        if exports.is_sqlite
        else text.replace(":a AS", "CAST(:a AS text) AS").replace(":n +", ":n::int +")
    )
    rows = await exports.json(cast, bind={"a": hostile, "n": 41})
    assert rows == [{"a": hostile, "n": 42, "again": hostile, "quoted": ":a", ":n": 1}]


@pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)
async def test_values_take_the_type_that_the_server_wants(exports: Exports) -> None:
    """Text becomes a time, a UUID, a number or a list, as the place it stands in needs."""
    query = """
        SELECT n FROM generate_series(1, 9) AS n
        WHERE n = ANY (:list) AND timestamptz '2026-01-02 00:00Z' > :since AND uuid_nil > :id AND n < :most
    """.replace("uuid_nil", "'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid")
    bind = {
        "list": "{2,4,8}",
        "since": "2026-01-01T00:00:00+00:00",
        "id": "01890000-0000-7000-8000-000000000001",
        "most": 5,
    }
    assert await exports.json(query, bind=bind) == [{"n": 2}, {"n": 4}]


@pytest.mark.parametrize(
    ("params", "problem"),
    [
        ({"query": " ; "}, "is empty"),
        ({"query": "SELECT :a"}, "asks for :a, and bind has no value"),
        ({"query": "SELECT ':a'", "bind": {"a": 1}}, "does not ask for :a"),
        ({"query": "SELECT 1", "format": "parquet", "gzip": True}, "parquet is compressed by itself"),
        ({"query": "SELECT 1", "format": "jsonl", "delimiter": ";"}, "are for csv"),
        ({"query": "SELECT 1", "timeout": "2d"}, "timeout"),
        ({"query": "SELECT 1", "timeout": "0s"}, "timeout"),
        ({"query": "SELECT 1", "delimiter": "x"}, "delimiter"),
        ({"query": "SELECT 1", "max_rows": 0}, "max_rows"),
        ({"query": "SELECT 1", "target": "postgresql://me:secret@host/db"}, "password in clear"),
    ],
)
def test_params_that_cannot_be(params: dict[str, Any], problem: str) -> None:
    """Each is refused with the reason, when the run is asked for."""
    with pytest.raises(ValidationError, match=problem):
        export.parse(params)


def test_what_is_not_ended_is_read_quickly() -> None:
    """Text that opens thousands of comments and quotes and ends none costs no time at all."""
    began = time.perf_counter()
    for opener in ("/* ", "$a$ ", "'", "E'\\", '"', "$a$b$c "):
        export.parse({"query": "SELECT " + opener * (90_000 // len(opener))})
    assert time.perf_counter() - began < 2


@pytest.mark.parametrize(("format", "bytes_max"), [("csv", 8_000_000), ("parquet", 40_000_000)])
async def test_200_000_rows_in_bounded_memory(exports: Exports, format: str, bytes_max: int) -> None:
    """A file of 70 MB and more needs a few MB of memory: a batch, or a row group of Parquet."""
    text = "printf('%s-%s', n, :pad)" if exports.is_sqlite else "n || '-' || CAST(:pad AS text)"
    wide = f"SELECT n, {text} AS text FROM ({numbers(exports, 200_000)}) AS q"
    bind = {"pad": "x" * 350}
    pool: Any = None
    if format == "parquet":
        import pyarrow

        pool = pyarrow.default_memory_pool()
    tracemalloc.start()
    try:
        result = await exports.run(wide, format=format, bind=bind)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert result["rows"] == 200_000
    assert peak + (pool.max_memory() if pool else 0) < bytes_max
    if format == "csv":
        lines = exports.read(result).decode().splitlines()
        assert len(lines) == 200_001
        assert [line.partition(",")[0] for line in lines[1:]] == [str(n) for n in range(1, 200_001)]


async def test_large_rows_come_one_by_one(exports: Exports) -> None:
    """Where rows have a MiB each, few are held at a time."""
    value = "zeroblob(1048576)" if exports.is_sqlite else "decode(repeat('00', 1048576), 'hex')"
    tracemalloc.start()
    try:
        result = await exports.run(
            f"SELECT n, {value} AS b FROM ({numbers(exports, 60)}) AS q", format="jsonl"
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert result["rows"] == 60
    # 16 rows in the first batch, as bytes and as base64.
    assert peak < 70_000_000


async def test_progress_with_a_total(exports: Exports) -> None:
    """Rows so far, of the number counted before."""
    ctx = exports.attempt()
    await exports.run(numbers(exports, 3_000), ctx, count=True)
    assert [each["total"] for each in ctx.progresses] == [3_000] * len(ctx.progresses)
    assert ctx.progresses[-1]["processed"] == 3_000
    assert len(ctx.progresses) > 3


def busy(exports: Exports) -> str:
    """A query that gives no row for hours."""
    return (
        f"SELECT count(*) AS n FROM ({numbers(exports, None)}) AS q"
        if exports.is_sqlite
        else "SELECT pg_sleep(3600)"
    )


def sessions(database: Database) -> int:
    """Exports that the server still works for."""
    if database.kind == "sqlite":
        return sum(thread.name.startswith("jobdeck-export") for thread in threading.enumerate())
    return len(
        database.rows(
            "SELECT 1 FROM pg_stat_activity WHERE application_name = 'jobdeck export' AND datname = current_database()"
        )
    )


def nobody_left(database: Database) -> bool:
    """Whether, within five seconds, nothing works for an export any more."""
    give_up = time.monotonic() + 5
    while sessions(database) and time.monotonic() < give_up:
        pass
    return sessions(database) == 0


async def test_a_cancel_while_the_database_is_busy(exports: Exports, database: Database) -> None:
    """It ends within a second, the database stops working for it, and nothing is left in the folder."""
    asked: list[float] = []

    def third_look(ctx: Any) -> None:
        asked.append(time.monotonic())
        if len(asked) == 3:
            ctx.reason = CancelReason.USER

    with pytest.raises(Cancelled):
        await exports.run(busy(exports), exports.attempt(before_look=third_look))
    assert time.monotonic() - asked[2] < 1
    assert exports.names == []
    assert nobody_left(database)


class CancelledAtRows(ExportContext):
    """Asked to stop once rows have been written."""

    def progress(self, processed: int | None = None, **rest: Any) -> None:
        super().progress(processed, **rest)
        if processed and processed > 2_000:
            self.reason = CancelReason.USER


@pytest.mark.parametrize("format", ["csv", "jsonl", "parquet"])
async def test_a_cancel_between_rows(exports: Exports, database: Database, format: str) -> None:
    """Half a file is no file."""
    ctx = CancelledAtRows(None, exports.settings)  # type: ignore[arg-type]
    with pytest.raises(Cancelled):
        await exports.run(numbers(exports, 1_000_000), ctx, format=format)
    assert exports.names == []
    assert nobody_left(database)


async def test_the_timeout(exports: Exports, database: Database) -> None:
    """A query that takes longer ends as an error, by the database or by the worker."""
    with pytest.raises(TimeoutError, match="longer than timeout"):
        await exports.run(busy(exports), timeout="300ms")
    assert exports.names == []
    assert nobody_left(database)


@pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)
async def test_the_server_itself_ends_what_takes_too_long(
    exports: Exports, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The timeout is the server's too, so that a worker that is gone leaves no query behind."""
    monkeypatch.setattr("jobdeck_handlers.export.run._LOOK", 30.0)
    with pytest.raises(TimeoutError, match="the database ended the query"):
        await exports.run("SELECT pg_sleep(3600)", timeout="200ms")
    assert nobody_left(database)


@pytest.mark.parametrize("format", ["csv", "parquet"])
async def test_bounds(exports: Exports, format: str) -> None:
    """One row or byte too many ends the run, and keeps nothing; the exact number does not."""
    assert (await exports.run(numbers(exports, 500), max_rows=500, format=format))["rows"] == 500
    with pytest.raises(Discard, match=r"more than max_rows, 499"):
        await exports.run(numbers(exports, 500), max_rows=499, format=format, file="b")
    size = (await exports.run("SELECT 1 AS a", format=format, file="c"))["bytes"]
    await exports.run("SELECT 1 AS a", format=format, file="d", max_bytes=size)
    with pytest.raises(Discard, match=rf"more than max_bytes, {size - 1:,}"):
        await exports.run("SELECT 1 AS a", format=format, file="e", max_bytes=size - 1)
    assert [name.partition(".")[0] for name in exports.names[1:]] == ["c", "d"]


@pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)
async def test_a_server_that_goes_away(exports: Exports, database: Database) -> None:
    """A connection that breaks in the middle costs an attempt, not the run, and leaves nothing."""

    def cut(ctx: Any) -> None:
        database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'jobdeck export' AND datname = current_database() AND state = 'active'"
        )

    done = pytest.raises(Exception, match="target database")
    with done as raised:
        await exports.run("SELECT pg_sleep(3600)", exports.attempt(before_look=cut))
    assert type(raised.value).__name__ == "Retry"
    assert exports.names == []


async def test_no_server(exports: Exports) -> None:
    """A file or server that is not there is said so."""
    missing = "sqlite:////nowhere/x.db"
    if not exports.is_sqlite:
        missing = make_url(exports.url).update_query_dict({"host": "/nowhere"}).render_as_string(False)
    with pytest.raises(Exception, match=r"no such SQLite file|target database"):
        await exports.run("SELECT 1", exports.attempt(settings=exports.settings | {"data_file_url": missing}))
    assert exports.names == []
