"""`export`: what becomes of each type in each format, and of names and text that mean harm."""

from __future__ import annotations

import base64
import json
import math
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pytest

from jobdeck import Discard
from tests.handlers.databases import Database
from tests.handlers.exporting import Exports

ON_POSTGRES = pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)
ON_SQLITE = pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
DATA = base64.b64encode(b"\x00\xff").decode()
LONG = "12345678901234567890.123456789012345678"

# Expression, type in the result, text in CSV, value in JSON, type and value in Parquet. None: as in JSON.
POSTGRES: list[tuple[str, str, str, Any, str, Any]] = [
    ("true", "bool", "true", True, "bool", None),
    ("(-32768)::int2", "int2", "-32768", -32768, "int16", None),
    ("2147483647", "int4", "2147483647", 2147483647, "int32", None),
    ("9223372036854775807", "int8", "9223372036854775807", 2**63 - 1, "int64", None),
    ("1.5::float4", "float4", "1.5", 1.5, "float", None),
    ("0.1::float8", "float8", "0.1", 0.1, "double", None),
    ("'-Infinity'::float8", "float8", "-Infinity", "-Infinity", "double", -math.inf),
    ("1.10::numeric", "numeric", "1.10", "1.10", "decimal128(38, 2)", Decimal("1.10")),
    (f"{LONG}::numeric", "numeric", LONG, LONG, "decimal128(38, 18)", Decimal(LONG)),
    (f"{LONG}9::numeric", "numeric", f"{LONG}9", f"{LONG}9", "decimal256(76, 19)", Decimal(f"{LONG}9")),
    ("1e100::numeric", "numeric", "1" + "0" * 100, "1" + "0" * 100, "string", None),
    ("'NaN'::numeric", "numeric", "NaN", "NaN", "string", None),
    ("'text'::text", "text", "text", "text", "string", None),
    ("'ab'::char(4)", "bpchar", "ab  ", "ab  ", "string", None),
    (r"'\x00ff'::bytea", "bytea", DATA, DATA, "binary", b"\x00\xff"),
    ("'2026-01-31'::date", "date", "2026-01-31", "2026-01-31", "date32[day]", date(2026, 1, 31)),
    ("'10:30:00.5'::time", "time", "10:30:00.5", "10:30:00.5", "time64[us]", time(10, 30, 0, 500_000)),
    (
        "'2026-01-31 10:30:00.000001'::timestamp",
        "timestamp",
        "2026-01-31T10:30:00.000001",
        "2026-01-31T10:30:00.000001",
        "timestamp[us]",
        datetime(2026, 1, 31, 10, 30, 0, 1),  # noqa: DTZ001  a time without a zone is what is meant
    ),
    (
        "'2026-01-31 10:30:00+02'::timestamptz",
        "timestamptz",
        "2026-01-31T08:30:00+00:00",
        "2026-01-31T08:30:00+00:00",
        "timestamp[us, tz=UTC]",
        datetime(2026, 1, 31, 8, 30, tzinfo=UTC),
    ),
    ("'10:30:00+02'::timetz", "timetz", "10:30:00+02", "10:30:00+02", "string", None),
    ("interval '1 month 2 days 3 hours'", "interval", "P1M2DT3H", "P1M2DT3H", "string", None),
    (
        "'01890000-0000-7000-8000-000000000001'::uuid",
        "uuid",
        "01890000-0000-7000-8000-000000000001",
        "01890000-0000-7000-8000-000000000001",
        "string",
        None,
    ),
    (
        """'{"a":  [1.10,\n null]}'::json""",
        "json",
        '{"a":  [1.10,\n null]}',
        {"a": [1.1, None]},
        "string",
        '{"a":  [1.10,\n null]}',
    ),
    (
        """'{"b": 12345678901234567890}'::jsonb""",
        "jsonb",
        '{"b": 12345678901234567890}',
        {"b": 12345678901234567890},
        "string",
        '{"b": 12345678901234567890}',
    ),
    ("ARRAY[1, NULL, 3]", "int4[]", "[1,null,3]", [1, None, 3], "string", "[1,null,3]"),
    ("ROW(1, 'x')", "record", '{"f1":1,"f2":"x"}', {"f1": 1, "f2": "x"}, "string", '{"f1":1,"f2":"x"}'),
    ("int4range(1, 5)", "int4range", "[1,5)", "[1,5)", "string", None),
    ("'10.0.0.1/24'::inet", "inet", "10.0.0.1/24", "10.0.0.1/24", "string", None),
    ("B'101'", "bit", "101", "101", "string", None),
    ("'(1,2)'::point", "point", "(1,2)", "(1,2)", "string", None),
    ("'high'::mood", "mood", "high", "high", "string", None),
    ("'x'::short", "varchar", "x", "x", "string", None),
    ("NULL::int4", "int4", "", None, "int32", None),
    ("NULL::jsonb", "jsonb", "", None, "string", None),
    ("NULL::timestamptz", "timestamptz", "", None, "timestamp[us, tz=UTC]", None),
]
SQLITE: list[tuple[str, str, str, Any, str, Any]] = [
    ("9223372036854775807", "integer", "9223372036854775807", 2**63 - 1, "int64", None),
    ("-1.5", "real", "-1.5", -1.5, "double", None),
    ("9e999", "real", "Infinity", "Infinity", "double", math.inf),
    ("'2026-01-31'", "text", "2026-01-31", "2026-01-31", "string", None),
    ("json('[1]')", "text", "[1]", "[1]", "string", None),
    ("x'00ff'", "blob", DATA, DATA, "binary", b"\x00\xff"),
    ("NULL", "null", "", None, "string", None),
    ("'a' || char(0) || 'b'", "text", "a\0b", "a\0b", "string", None),
]


async def check(exports: Exports, cases: list[tuple[str, str, str, Any, str, Any]]) -> None:
    query = "SELECT " + ", ".join(f"{case[0]} AS c{at}" for at, case in enumerate(cases))
    result = await exports.run(query)
    assert [column["type"] for column in result["columns"]] == [case[1] for case in cases]
    assert (await exports.csv(query, overwrite=True))[1] == [case[2] for case in cases]
    assert list((await exports.json(query))[0].values()) == [case[3] for case in cases]
    table = await exports.arrow(query)
    assert [str(each.type) for each in table.schema] == [case[4] for case in cases]
    wanted = [case[3] if case[5] is None else case[5] for case in cases]
    assert list(table.to_pylist()[0].values()) == wanted


@ON_POSTGRES
async def test_types_of_postgresql(exports: Exports, database: Database) -> None:
    """Each type in each format; those that no format has are PostgreSQL's own text or, with parts, JSON."""
    database.execute("CREATE TYPE mood AS ENUM ('low', 'high')")
    database.execute("CREATE DOMAIN short AS varchar(3)")
    await check(exports, POSTGRES)


@ON_SQLITE
async def test_types_of_sqlite(exports: Exports) -> None:
    """Each storage class in each format."""
    await check(exports, SQLITE)


@pytest.mark.parametrize("format", ["csv", "jsonl", "parquet"])
async def test_no_number_is_no_number(exports: Exports, format: str) -> None:
    """NaN stays NaN where the format has it, and is the text NaN in JSON. SQLite has none: it makes it NULL."""
    nan = "'NaN'::float8" if not exports.is_sqlite else "9e999 - 9e999"
    query = f"SELECT {nan} AS n, 1 AS one"
    if format == "csv":
        assert (await exports.csv(query))[1][0] == ("" if exports.is_sqlite else "NaN")
    elif format == "jsonl":
        assert (await exports.json(query))[0]["n"] == (None if exports.is_sqlite else "NaN")
    else:
        found = (await exports.arrow(query)).to_pylist()[0]["n"]
        assert found is None if exports.is_sqlite else math.isnan(found)


@ON_POSTGRES
@pytest.mark.parametrize("moment", ["infinity", "-infinity", "0044-03-15 BC", "20260-01-01"])
@pytest.mark.parametrize("kind", ["date", "timestamp", "timestamptz"])
async def test_times_that_only_the_server_knows(exports: Exports, moment: str, kind: str) -> None:
    """They are text as the server writes them; Parquet, which has no way to write them, says so."""
    query = f"SELECT '{moment}'::{kind} AS at"
    (row,) = await exports.json(query)
    assert row["at"].startswith(moment.partition(" ")[0])
    assert row["at"].endswith("BC") == moment.endswith("BC")
    with pytest.raises(Discard, match=rf"column at \({kind}\) has a value that Parquet cannot hold"):
        await exports.run(query, format="parquet")
    assert len(exports.names) == 1


@ON_SQLITE
async def test_parquet_types_come_from_all_the_rows(exports: Exports, database: Database) -> None:
    """SQLite has no types of columns: all values are looked at, not only the first; what is mixed is refused."""
    database.execute("CREATE TABLE t (a, b, c, d)")
    database.execute("INSERT INTO t SELECT NULL, value, value, value FROM json_each('[1, 2, 3]')")
    database.execute("INSERT INTO t VALUES (7, 2.5, 'x', 9007199254740993), (NULL, NULL, NULL, 1.5)")
    table = await exports.arrow("SELECT a, b FROM t")
    assert [str(each.type) for each in table.schema] == ["int64", "double"]
    assert table.to_pydict() == {"a": [None, None, None, 7, None], "b": [1.0, 2.0, 3.0, 2.5, None]}
    for name in ("c", "d"):
        with pytest.raises(Discard, match="column 1 has values of more than one type"):
            await exports.run(f"SELECT {name} FROM t", format="parquet", file="mixed")
        assert len(await exports.json(f"SELECT {name} FROM t", overwrite=True)) == 5


@ON_SQLITE
async def test_text_that_is_none(exports: Exports) -> None:
    """Bytes that are no UTF-8 are not written as if they were, and do not come into the error."""
    with pytest.raises(Discard, match=r"^Could not decode to UTF-8 column 'a'; select it as CAST"):
        await exports.run("SELECT CAST(x'68756e74657232ff' AS TEXT) AS a")
    assert exports.names == []


async def test_empty_text_is_not_null(exports: Exports) -> None:
    """In CSV too: one is quoted, the other is nothing. A line is never empty, for many readers skip it."""
    result = await exports.run("SELECT '' AS a, NULL AS b")
    assert exports.read(result) == b'a,b\r\n"",\r\n'
    result = await exports.run("SELECT NULL AS a", overwrite=True)
    assert exports.read(result) == b'a\r\n""\r\n'


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
async def test_delimiters(exports: Exports, delimiter: str) -> None:
    """Whatever stands between fields, text with it is quoted."""
    rows = await exports.csv("SELECT :a AS a, :b AS b", bind={"a": "x,;\t|", "b": 'q"'}, delimiter=delimiter)
    assert rows == [["a", "b"], ["x,;\t|", 'q"']]


FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =1", "＝1", '=cmd|"/c calc"!A0']
HARMLESS = ["x=1", "a-b", "", "1", "ä", "'=1"]


@pytest.mark.parametrize("text", FORMULAS + HARMLESS)
async def test_formulas(exports: Exports, text: str) -> None:
    """Text that a spreadsheet would calculate gets a ' before it, in headers too, where that is asked for."""
    query = 'SELECT :text AS a, -1 AS n, -1.5 AS x, 2 AS "=HYPERLINK(1)"'
    assert (await exports.csv(query, bind={"text": text}))[1] == [text, "-1", "-1.5", "2"]
    safe = await exports.csv(query, bind={"text": text}, spreadsheet_safe=True, overwrite=True)
    marked = f"'{text}" if text in FORMULAS else text
    assert safe == [["a", "n", "x", "'=HYPERLINK(1)"], [marked, "-1", "-1.5", "2"]]


HOSTILE = [
    'a"b',
    "x, y",
    "new\nline",
    "; DROP TABLE t; --",
    "ünï 🚀",
    "{date}",
    "\x1b[31mred",
    "'",
    "$1",
    ":a",
    "%s",
]


async def test_names_of_columns_that_mean_harm(exports: Exports) -> None:
    """They are names in every format, and nothing else."""
    query = "SELECT " + ", ".join(
        '{} AS "{}"'.format(at, name.replace('"', '""')) for at, name in enumerate(HOSTILE)
    )
    assert (await exports.csv(query))[0] == HOSTILE
    assert (await exports.json(query))[0] == {name: at for at, name in enumerate(HOSTILE)}
    assert (await exports.arrow(query)).column_names == HOSTILE


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("SELECT 1 AS a, 2 AS b, 3 AS a", "two columns are called 'a'"),
        ("SELECT " + ", ".join(f"{n} AS c{n}" for n in range(1_001)), "1,001 columns"),
    ],
)
async def test_columns_that_no_file_should_have(exports: Exports, query: str, problem: str) -> None:
    """Refused with the reason, before anything is written."""
    with pytest.raises(Discard, match=problem):
        await exports.run(query)
    assert exports.names == []


@ON_SQLITE
async def test_a_name_that_is_a_page(exports: Exports) -> None:
    """SQLite names a column after its text; the result has no room for a long one."""
    with pytest.raises(Discard, match="column 2 has a name of more than 256"):
        await exports.run(f"SELECT 1 AS a, '{'x' * 300}'")


async def test_json_of_any_shape_stays_on_its_line(exports: Exports) -> None:
    """Line breaks in text and in JSON make no new line of the file."""
    nested = "'[\n1,\r\n\"a\\nb\"]'" + ("" if exports.is_sqlite else "::json")
    result = await exports.run(f"SELECT :t AS t, {nested} AS j", format="jsonl", bind={"t": "a\nb\u2028c"})
    data = exports.read(result)
    assert data.count(b"\n") == 1
    row = json.loads(data)
    assert row["t"] == "a\nb\u2028c"
    assert (json.loads(row["j"]) if exports.is_sqlite else row["j"]) == [1, "a\nb"]
