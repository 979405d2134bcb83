"""`http_sync`: columns are made and widened from the data, and nothing that a source sends is lost or obeyed."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jobdeck import Discard
from jobdeck_handlers.http_sync.kinds import Kind, as_kind, join, kind_of
from jobdeck_handlers.http_sync.naming import NAME_BYTES, column_names
from tests.handlers.api import Api
from tests.handlers.conftest import MakeContext
from tests.handlers.context import OTHER_RUN
from tests.handlers.databases import Database
from tests.handlers.syncing import BY_PAGE, counts, sync, users

SQLITE = {"flag": "BOOLEAN", "n": "BIGINT", "x": "DOUBLE", "t": "TEXT", "j": "JSON"}
POSTGRES = {"flag": "BOOLEAN", "n": "BIGINT", "x": "DOUBLE PRECISION", "t": "TEXT", "j": "JSONB"}


def decoded(value: Any) -> Any:
    """A JSON column as both databases give it: SQLite gives its text."""
    return json.loads(value) if isinstance(value, str) else value


async def test_columns_get_the_type_of_their_values(
    api: Api, attempt: MakeContext, database: Database
) -> None:
    """Each JSON type has its column type, nested values are JSON, and what is read back is what was sent."""
    record = {
        "id": 1,
        "flag": True,
        "n": 2**62,
        "x": 1.5,
        "t": "007",
        "j": {"a": [1, None, "ü"]},
        "nothing": None,
    }
    api.records = [record, {"id": 2}]
    await sync(attempt(), api.url("/everything"))
    wanted = SQLITE if database.kind == "sqlite" else POSTGRES
    assert database.types("users") == {"id": "BIGINT", **wanted}
    row = database.rows("SELECT * FROM users WHERE id = 1")[0]
    assert row | {"j": decoded(row["j"])} == {
        name: value for name, value in record.items() if name != "nothing"
    }
    assert counts(await sync(attempt(run_id=OTHER_RUN), api.url("/everything"))) == (0, 2, 0)


@pytest.mark.parametrize(
    ("values", "kind", "stored"),
    [
        ([1, 2.5], "x", [1.0, 2.5]),
        ([True, 5], "n", [1, 5]),
        ([True, 2.5], "x", [1.0, 2.5]),
        ([1, "007"], "t", ["1", "007"]),
        ([1.5, "x"], "t", ["1.5", "x"]),
        ([True, False, "x"], "t", ["true", "false", "x"]),
        ([None, 3, "x"], "t", [None, "3", "x"]),
        ([1, 2**70], "t", ["1", str(2**70)]),
        ([2**60 + 1, 0.5], "t", [str(2**60 + 1), "0.5"]),
        ([1, {"a": 1}], "j", [1, {"a": 1}]),
        ([True, [1]], "j", [True, [1]]),
        ([{"a": 1}, "b", 7], "j", [{"a": 1}, "b", 7]),
        (["b", {"a": 1}], "t", ["b", '{"a": 1}']),
    ],
)
@pytest.mark.parametrize("mode", ["upsert", "replace"])
async def test_columns_are_widened(
    mode: str,
    values: list[Any],
    kind: str,
    stored: list[Any],
    api: Api,
    attempt: MakeContext,
    database: Database,
) -> None:
    """A value that a later page brings and that does not fit widens the column; what was there keeps its meaning."""
    api.page_size = 1
    api.records = [{"id": n, "v": value} for n, value in enumerate(values)]
    assert counts(await sync(attempt(), api.url("/pages"), **BY_PAGE, mode=mode)) == (len(values), 0, 0)
    assert database.types("users")["v"] == (SQLITE if database.kind == "sqlite" else POSTGRES)[kind]
    found = database.column("SELECT v FROM users ORDER BY id")
    if kind == "j":
        found = [
            json.loads(each) if isinstance(each, str) and database.kind == "sqlite" else each
            for each in found
        ]
    assert found == stored
    assert [type(each) for each in found] == [type(each) for each in stored]
    # What was widened is still recognised.
    if mode == "upsert":
        assert counts(await sync(attempt(run_id=OTHER_RUN), api.url("/pages"), **BY_PAGE)) == (
            0,
            len(values),
            0,
        )


async def test_the_key_is_widened(api: Api, attempt: MakeContext, database: Database) -> None:
    """Ids that turn from numbers to text keep their rows, and stay unique."""
    api.records = [*users(12), {"id": "A-13", "name": "user 13"}]
    await sync(attempt(), api.url("/pages"), **BY_PAGE)
    assert sorted(database.column("SELECT id FROM users")) == sorted([*map(str, range(1, 13)), "A-13"])
    api.records[0]["name"] = "changed"
    assert counts(await sync(attempt(run_id=OTHER_RUN), api.url("/pages"), **BY_PAGE)) == (1, 12, 0)
    with pytest.raises(Exception, match=r"(?i)unique"):
        database.execute("INSERT INTO users (id) VALUES ('A-13')")


async def test_a_table_of_people_is_filled_in_its_own_types(
    api: Api, attempt: MakeContext, database: Database
) -> None:
    """Types that only people choose are converted to and never changed; what does not fit them fails alone."""
    database.execute(
        "CREATE TABLE users (pk INTEGER PRIMARY KEY, id VARCHAR(36), at TIMESTAMP, day DATE, price NUMERIC(10, 2), "
        "small SMALLINT, age INTEGER)"
        if database.kind == "sqlite"
        else "CREATE TABLE users (pk SERIAL PRIMARY KEY, id UUID, at TIMESTAMPTZ, day DATE, price NUMERIC(10, 2), "
        "small SMALLINT, age INTEGER)"
    )
    ids = [str(uuid4()) for _ in range(3)]
    good = {"at": "2026-01-31T10:30:00+02:00", "day": "2026-01-31", "price": 1.25, "small": 3, "age": 2**31}
    api.records = [good | {"id": each} for each in ids]
    assert counts(await sync(attempt(), api.url("/everything"))) == (3, 0, 0)
    assert counts(await sync(attempt(run_id=OTHER_RUN), api.url("/everything"))) == (0, 3, 0)
    row = database.rows("SELECT * FROM users ORDER BY pk")[0]
    assert str(row["id"]) == ids[0]
    assert float(row["price"]) == 1.25
    assert row["age"] == 2**31
    if database.kind == "postgresql":
        assert row["at"].timestamp() == 1769848200
        assert database.types("users") | {
            "id": "UUID",
            "age": "BIGINT",
            "small": "SMALLINT",
        } == database.types("users")
        api.records[1] = good | {"id": str(uuid4()), "day": "someday"}
        api.records[2] = good | {"id": "not a uuid"}
        assert (
            counts(await sync(attempt(run_id=OTHER_RUN, fence=9), api.url("/everything"), query={"a": 1}))[2]
            == 2
        )


HOSTILE = [
    'a"; DROP TABLE users; --',
    "a'b",
    "per%cent %s %(x)s",
    ":colon ?mark $1",
    "dot.ted [x] (y)",
    "\x1b]0;title\x07",
    "line\nbreak",
    "nul\x00",
    "\ud800",
    "  ",
    "",
    "ID",
    "ctid",
    "xmin",
    "rowid",
    "p0",
    "select",
    "ü" * 100,
    "x" * 5000,
    "x" * 5000 + "y",
    "_jobdeck_widened_",
]


async def test_hostile_names_of_fields(api: Api, attempt: MakeContext, database: Database) -> None:
    """Whatever a source calls its fields, each gets a column of its own, and none of them is obeyed."""
    api.records = [{"id": n, **{name: f"{n} {at}" for at, name in enumerate(HOSTILE)}} for n in range(3)]
    assert counts(await sync(attempt(), api.url("/everything"))) == (3, 0, 0)
    row = database.rows("SELECT * FROM users WHERE id = 2")[0]
    assert sorted(map(str, row.values())) == sorted(["2", *(f"2 {at}" for at in range(len(HOSTILE)))])
    assert all(name.isprintable() and len(name.encode()) <= NAME_BYTES for name in row)
    # The same again, changed and wider.
    api.records = [{"id": n, **{name: at for at, name in enumerate(HOSTILE)}} for n in range(4)]
    assert counts(await sync(attempt(run_id=OTHER_RUN), api.url("/everything"))) == (4, 0, 0)
    assert len(database.rows("SELECT * FROM users WHERE id = 2")[0]) == len(HOSTILE) + 1


async def test_ids_as_names_of_fields_are_refused(api: Api, attempt: MakeContext, database: Database) -> None:
    """A source that would make a column for each record ends the run instead of the table."""
    api.records = [{"id": 1, **{f"user-{n}": n for n in range(300)}}]
    with pytest.raises(Discard, match="301 columns; at most 256"):
        await sync(attempt(), api.url("/everything"))
    assert "users" not in database.tables()


async def test_values_that_no_database_takes(api: Api, attempt: MakeContext, database: Database) -> None:
    """NUL, half a surrogate pair and bottomless nesting fail alone, also deep inside a record."""
    deep: Any = 1
    for _ in range(100):
        deep = [deep]
    api.records = [*users(2), {"id": 3, "x": {"y": ["\x00"]}}, {"id": 4, "x": "\ud800"}, {"id": 5, "x": deep}]
    assert counts(await sync(attempt(), api.url("/everything"))) == (2, 0, 3)


async def test_records_of_different_shape(api: Api, attempt: MakeContext, database: Database) -> None:
    """Records need not have the same fields; what one lacks stays as it is in the table."""
    api.records = [{"id": 1, "a": 1}, {"id": 2, "b": "x"}, {"id": 3, "a": None, "c": None}]
    await sync(attempt(), api.url("/everything"))
    assert set(database.types("users")) == {"id", "a", "b"}
    api.records = [{"id": 1, "b": "y"}]
    await sync(attempt(run_id=OTHER_RUN), api.url("/everything"))
    assert database.rows("SELECT id, a, b FROM users WHERE id = 1") == [{"id": 1, "a": 1, "b": "y"}]


SCALARS = (
    st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)


@example([2**60 + 1, 0.5])
@given(st.lists(SCALARS | st.lists(st.integers(), max_size=2), min_size=1, max_size=6))
def test_the_joined_kind_holds_every_value(values: list[Any]) -> None:
    """Whatever a column holds, in whatever order it came, no value changes by more than its notation."""
    kind = kind_of(values[0])
    for value in values[1:]:
        kind = join(kind, kind_of(value))
    for value in values:
        held = as_kind(value, kind)
        again = json.loads(held) if kind is Kind.TEXT and not isinstance(value, str) else held
        assert again == value


@given(
    st.lists(st.text(max_size=80), unique=True, max_size=12),
    st.lists(st.text(min_size=1, max_size=20), max_size=4),
)
def test_every_field_has_a_column_of_its_own(fields: list[str], before: list[str]) -> None:
    """Names stay distinct, also without regard to case, and a second look at the same fields finds the same columns."""
    existing = list(column_names(before, ()).values())
    names = column_names(fields, existing)
    assert set(names) == set(fields)
    assert len({name.casefold() for name in names.values()}) == len(fields)
    assert all(0 < len(name.encode()) <= NAME_BYTES and name.isprintable() for name in names.values())
    assert column_names(fields, {*existing, *names.values()}) == names
