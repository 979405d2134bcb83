"""`http_sync`: what comes from a source of any paging gets into a table, in any mode, and is counted right."""

from __future__ import annotations

from typing import Any

import pytest

from jobdeck import Discard, ValidationError
from jobdeck_handlers.http_sync import http_sync
from tests.handlers.api import Api, Reply
from tests.handlers.conftest import MakeContext
from tests.handlers.context import FOURTH_RUN, OTHER_RUN, THIRD_RUN
from tests.handlers.databases import Database
from tests.handlers.syncing import BY_PAGE, counts, sync, users

# Path, params, pages and requests for 25 records, 10 a page.
PAGINGS: dict[str, tuple[dict[str, Any], int, int]] = {
    "/everything": ({}, 1, 1),
    "/pages": (BY_PAGE, 3, 4),
    "/offsets": ({"pagination": {"kind": "offset", "limit": 50}}, 3, 4),
    "/cursors": (
        {"records": "items", "pagination": {"kind": "cursor", "path": "paging.next", "param": "after"}},
        3,
        3,
    ),
    "/nexts": ({"records": "items", "pagination": {"kind": "next_url"}}, 3, 3),
    "/links": ({"pagination": {"kind": "link_header"}}, 3, 3),
}


@pytest.mark.parametrize("path", PAGINGS)
async def test_reads_every_page(path: str, api: Api, attempt: MakeContext, database: Database) -> None:
    """Each kind of paging brings every record once, with no more requests than it takes to see the end."""
    api.records = users(25)
    params, pages, requests = PAGINGS[path]
    ctx = attempt()
    result = await sync(ctx, api.url(path), **params)
    assert database.column("SELECT id FROM users ORDER BY id") == list(range(1, 26))
    assert dict(result) == {
        "synced": 25,
        "skipped": 0,
        "failed": 0,
        "total": 25,
        "pages": pages,
        "table": "users",
    }
    assert len(api.asked) == requests


async def test_progress_follows_the_pages(api: Api, attempt: MakeContext, database: Database) -> None:
    """Progress counts records after each page, and the message says it in words."""
    api.records = users(20)
    await sync(attempt(), api.url("/everything"))
    api.records = [*users(20), *users(3, start=21), {"name": "nobody"}]
    ctx = attempt(run_id=OTHER_RUN)
    await sync(ctx, api.url("/pages"), **BY_PAGE, total="X-Total-Count")
    assert [each["processed"] for each in ctx.progresses] == [10, 20, 24]
    assert ctx.progresses[-1] == {
        "processed": 24,
        "total": 24,
        "failed": 1,
        "skipped": 20,
        "message": "Synced 3 users, 20 skipped, 1 failed",
    }


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("/wrapped", {"records": "data.items", "total": "meta.total"}),
        ("/pages", {**BY_PAGE, "total": "x-total-count"}),
    ],
)
async def test_total_is_what_the_source_states(
    path: str, params: dict[str, Any], api: Api, attempt: MakeContext, database: Database
) -> None:
    """A total from the body or from a header is shown while the sync runs, and ends numbered pages without one more."""
    api.records = users(20)
    ctx = attempt()
    result = await sync(ctx, api.url(path), **params)
    assert {each["total"] for each in ctx.progresses} == {20}
    assert result["total"] == 20
    assert len(api.asked) == result["pages"]


async def test_upsert_adds_updates_and_skips(api: Api, attempt: MakeContext, database: Database) -> None:
    """A second run updates what has changed, adds what is new and skips what is the same."""
    api.records = users(4)
    await sync(attempt(), api.url("/everything"))
    api.records = [*users(2), {"id": 3, "name": "changed"}, {"id": 4, "name": None}, *users(1, start=5)]
    result = await sync(attempt(run_id=OTHER_RUN), api.url("/everything"))
    assert counts(result) == (3, 2, 0)
    assert database.column("SELECT name FROM users ORDER BY id") == [
        "user 1",
        "user 2",
        "changed",
        None,
        "user 5",
    ]


async def test_upsert_takes_the_last_of_equal_keys(
    api: Api, attempt: MakeContext, database: Database
) -> None:
    """Where a page names a record twice, the later one counts and the other is skipped."""
    api.records = [{"id": 1, "name": "old"}, {"id": 1, "name": "new"}]
    assert counts(await sync(attempt(), api.url("/everything"))) == (1, 1, 0)
    assert database.column("SELECT name FROM users") == ["new"]


async def test_key_of_two_fields(api: Api, attempt: MakeContext, database: Database) -> None:
    """Records are told apart by all fields of the key together."""
    api.records = [{"shop": shop, "nr": nr, "x": 1} for shop in ("a", "b") for nr in (1, 2)]
    assert counts(await sync(attempt(), api.url("/everything"), key=["shop", "nr"])) == (4, 0, 0)
    api.records[3]["x"] = 2
    result = await sync(attempt(run_id=OTHER_RUN), api.url("/everything"), key=["shop", "nr"])
    assert counts(result) == (1, 3, 0)
    assert database.column("SELECT x FROM users ORDER BY shop, nr") == [1, 1, 1, 2]


async def test_insert_leaves_what_exists(api: Api, attempt: MakeContext, database: Database) -> None:
    """Mode insert adds new records and skips those whose key is there, changed or not."""
    api.records = users(2)
    await sync(attempt(), api.url("/everything"), mode="insert")
    api.records = [{"id": 1, "name": "changed"}, *users(2, start=2)]
    result = await sync(attempt(run_id=OTHER_RUN), api.url("/everything"), mode="insert")
    assert counts(result) == (1, 2, 0)
    assert database.column("SELECT name FROM users ORDER BY id") == ["user 1", "user 2", "user 3"]


async def test_insert_without_key_adds_everything(api: Api, attempt: MakeContext, database: Database) -> None:
    """Without a key nothing can be told to be there already."""
    api.records = [{"n": 1}, {"n": 1}]
    await sync(attempt(), api.url("/everything"), mode="insert", key=[])
    await sync(attempt(run_id=OTHER_RUN), api.url("/everything"), mode="insert", key=[])
    assert database.column("SELECT n FROM users") == [1, 1, 1, 1]


async def test_replace_drops_what_the_source_no_longer_has(
    api: Api, attempt: MakeContext, database: Database
) -> None:
    """Mode replace leaves exactly the source's records, and no staging table."""
    api.records = users(25)
    await sync(attempt(), api.url("/pages"), **BY_PAGE, mode="replace")
    api.records = [{"id": n, "mail": "x"} for n in range(20, 40)]
    result = await sync(attempt(run_id=OTHER_RUN), api.url("/pages"), **BY_PAGE, mode="replace")
    assert counts(result) == (20, 0, 0)
    assert database.column("SELECT id FROM users ORDER BY id") == list(range(20, 40))
    assert database.column("SELECT DISTINCT name FROM users") == [None]
    assert database.tables() == {"users", "_jobdeck_sync", "_jobdeck_sync_since"}


async def test_replace_keeps_the_views_on_the_table(
    api: Api, attempt: MakeContext, database: Database
) -> None:
    """Only rows are replaced: a view that people made on the table goes on to work."""
    api.records = users(2)
    await sync(attempt(), api.url("/everything"), mode="replace", key=[])
    database.execute("CREATE VIEW names AS SELECT name FROM users")
    api.records = users(1, start=9)
    await sync(attempt(run_id=OTHER_RUN), api.url("/everything"), mode="replace", key=[])
    assert database.column("SELECT name FROM names") == ["user 9"]


async def test_replace_by_nothing(api: Api, attempt: MakeContext, database: Database) -> None:
    """An empty source empties the table; where there is no table, none is made."""
    assert counts(await sync(attempt(), api.url("/everything"), mode="replace")) == (0, 0, 0)
    assert "users" not in database.tables()
    api.records = users(2)
    await sync(attempt(run_id=OTHER_RUN), api.url("/everything"), mode="replace")
    api.records = []
    await sync(attempt(run_id=THIRD_RUN), api.url("/everything"), mode="replace")
    assert database.count("users") == 0


async def test_records_without_key_are_failed(api: Api, attempt: MakeContext, database: Database) -> None:
    """A record without its key is counted as failed, with the reason in the log, and the others are stored."""
    api.records = [*users(2), {"name": "none"}, {"id": None}, {"id": ""}, {"id": [1]}, 7, {}]
    ctx = attempt()
    assert counts(await sync(ctx, api.url("/everything"))) == (2, 0, 6)
    assert database.count("users") == 2
    assert {"reason": "no key: id is missing", "page": 1} in ctx.log.with_message("record not stored")


async def test_records_that_the_target_refuses_are_failed(
    api: Api, attempt: MakeContext, database: Database
) -> None:
    """One record that breaks a constraint of the table fails alone, among 100 that do not."""
    database.execute("CREATE TABLE users (id BIGINT, name TEXT UNIQUE, age BIGINT CHECK (age < 150))")
    api.records = [each | {"age": 30} for each in users(100)]
    api.records[17]["age"] = 999
    api.records[63]["name"] = "user 1"
    api.records[99]["name"] = "a\x00b"
    ctx = attempt()
    assert counts(await sync(ctx, api.url("/everything"))) == (97, 0, 3)
    assert database.count("users") == 97
    assert 18 not in database.column("SELECT id FROM users")
    assert len(ctx.log.with_message("record not stored")) == 3
    # Now they exist, and updates are refused one by one in the same way.
    for each in api.records:
        each["age"] += 1
    result = await sync(attempt(run_id=OTHER_RUN), api.url("/everything"))
    assert counts(result) == (97, 0, 3)


async def test_max_pages_stops_early(api: Api, attempt: MakeContext, database: Database) -> None:
    """`max_pages` ends a sync that could go on, as completed."""
    api.records = users(50)
    result = await sync(attempt(), api.url("/pages"), **BY_PAGE, max_pages=2, total="X-Total-Count")
    assert (counts(result), result["pages"], result["total"]) == ((20, 0, 0), 2, 50)
    assert len(api.asked) == 2


async def test_since_asks_only_for_what_is_newer(api: Api, attempt: MakeContext, database: Database) -> None:
    """A later run asks from the newest mark of the earlier ones, per source, and from the start without the table."""
    since = {"since_param": "since", "since_field": "changed"}
    api.records = [each | {"changed": f"2026-01-0{each['id']}"} for each in users(5)]
    await sync(attempt(), api.url("/changed"), **since)
    assert "since" not in api.asked[-1].query
    api.records += [{"id": 6, "name": "user 6", "changed": "2026-01-06"}]
    result = await sync(attempt(run_id=OTHER_RUN), api.url("/changed"), **since)
    assert api.asked[-1].query["since"] == "2026-01-05"
    assert counts(result) == (1, 1, 0)
    await sync(attempt(run_id=THIRD_RUN), api.url("/changed"), **since, query={"shop": "2"})
    assert "since" not in api.asked[-1].query
    database.execute("DROP TABLE users")
    await sync(attempt(run_id=FOURTH_RUN), api.url("/changed"), **since)
    assert "since" not in api.asked[-1].query
    assert database.count("users") == 6


async def test_since_is_not_moved_by_a_sync_that_did_not_see_all(
    api: Api, attempt: MakeContext, database: Database
) -> None:
    """A source may give the newest first: what a stopped sync left out must come with the next one."""
    api.records = [each | {"changed": 100 - each["id"]} for each in users(25)]
    since = {**BY_PAGE, "since_param": "since", "since_field": "changed"}
    await sync(attempt(), api.url("/pages"), **since, max_pages=1)
    await sync(attempt(run_id=OTHER_RUN), api.url("/pages"), **since)
    assert all("since" not in each.query for each in api.asked)
    assert database.count("users") == 25
    await sync(attempt(run_id=THIRD_RUN), api.url("/pages"), **since)
    assert api.asked[-1].query["since"] == "99"


async def test_headers_and_query_are_sent(
    api: Api, attempt: MakeContext, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A secret header is looked up only to be sent; the query is merged with the URL's own and the page's."""
    monkeypatch.setenv("JOBDECK_SECRET_API", "Bearer t0ps3cret")
    api.records = users(3)
    params = {**BY_PAGE, "headers": {"Authorization": "secret://API"}, "query": {"limit": 7, "all": True}}
    await sync(attempt(), api.url("/pages?page=9&shop=1"), **params)
    assert api.asked[0].headers["Authorization"] == "Bearer t0ps3cret"
    assert api.asked[0].query == {"shop": "1", "limit": "7", "all": "true", "page": "1"}
    assert "t0ps3cret" not in str(database.rows("SELECT * FROM _jobdeck_sync"))


async def test_a_secret_that_is_not_set_is_named(api: Api, attempt: MakeContext, database: Database) -> None:
    """The run ends at once, naming the variable the worker needs."""
    with pytest.raises(Discard, match="JOBDECK_SECRET_NOPE is not set"):
        await sync(attempt(), api.url("/everything"), headers={"X-Key": "secret://NOPE"})


@pytest.mark.parametrize(
    ("params", "problem"),
    [
        ({"key": []}, "upsert needs key"),
        ({"key": ["id", "id"]}, "names a field twice"),
        ({"table": "_jobdeck_sync"}, "use another name"),
        ({"table": 'users"; DROP TABLE x'}, "table"),
        ({"since_param": "since"}, "go together"),
        ({"since_param": "s", "since_field": "f", "mode": "replace"}, "replace needs all records"),
        ({"headers": {"X": "secret://not a name"}}, "headers.X"),
        ({"query": {"key": "secret://API"}}, "goes into headers"),
        ({"pagination": {"kind": "magic"}}, "pagination"),
        ({"pagination": {"kind": "cursor"}}, "path"),
        ({"target": "postgresql://me:pass@host/db"}, "password in clear"),
        ({"target": "postgresql://me:secret://a-b@host/db"}, "password in clear"),
        ({"max_pages": 0}, "max_pages"),
        ({"url": "ftp://host/"}, "url"),
        ({"tabel": "x"}, "tabel"),
    ],
)
def test_wrong_params_are_refused(params: dict[str, Any], problem: str) -> None:
    """Params that cannot work are refused before anything is stored, in one line that names the field."""
    with pytest.raises(ValidationError, match=problem) as caught:
        http_sync.parse({"url": "https://api.example.com/", "table": "users", "key": ["id"]} | params)
    assert "pass@" not in str(caught.value)


def test_one_flight_for_each_table() -> None:
    """Runs into one table of one target exclude each other; others do not."""

    def key(**params: Any) -> str | None:
        raw = {"url": "https://api.example.com/", "table": "users", "key": ["id"]} | params
        return http_sync.flight_key(http_sync.parse(raw))

    assert key() == key(url="https://other.example.com/", mode="replace") == "users"
    assert len({key(), key(table="shops"), key(target="warehouse"), key(target="secret://DB")}) == 4


async def test_bare_values_become_a_column(api: Api, attempt: MakeContext, database: Database) -> None:
    """A list of plain values is a table with one column."""
    api.records = ["a", "b"]
    await sync(attempt(), api.url("/everything"), key=["value"])
    assert database.column("SELECT value FROM users ORDER BY value") == ["a", "b"]


async def test_a_body_that_has_no_list_is_explained(
    api: Api, attempt: MakeContext, database: Database
) -> None:
    """The run ends at once and says what the answer holds instead."""
    with pytest.raises(Discard, match="an object with data, meta, not a list"):
        await sync(attempt(), api.url("/wrapped"))
    with pytest.raises(Discard, match=r"nothing at data\.users"):
        await sync(attempt(), api.url("/wrapped"), records="data.users")
    api.routes["/empty"] = lambda _: Reply(b"", status=204)
    assert counts(await sync(attempt(run_id=OTHER_RUN), api.url("/empty"))) == (0, 0, 0)
