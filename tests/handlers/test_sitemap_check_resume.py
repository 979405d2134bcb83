"""`sitemap_check` over several attempts: after a crash, after a cancel, and with two workers that both hold the run."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from jobdeck import Cancelled, CancelReason, Discard, StaleLease
from jobdeck_handlers.sitemap_check import check as loop
from jobdeck_handlers.sitemap_check import sitemap_check
from tests.handlers.api import Api, Asked, Reply
from tests.handlers.checking import asked_for, check, page, serve, serve_pages, stored, urlset
from tests.handlers.conftest import MakeContext
from tests.handlers.context import OTHER_RUN, RecordingContext
from tests.handlers.databases import Database

pytestmark = pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)


class Crash(BaseException):
    """The worker dies here: no handler catches this."""


@pytest.fixture(autouse=True)
def _stored_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages are stored as they are judged, so that it is known which are."""
    monkeypatch.setattr(loop, "_STORED", 1)


def once_asked(
    api: Api, count: int, stop: Callable[[RecordingContext], None]
) -> Callable[[RecordingContext], None]:
    """Does `stop` at the first look for a cancel after so many pages were asked for."""

    def look(ctx: RecordingContext) -> None:
        if len(asked_for(api)) >= count:
            stop(ctx)

    return look


def crash(_: RecordingContext) -> None:
    raise Crash


def cancel(ctx: RecordingContext) -> None:
    ctx.reason = CancelReason.USER


async def test_goes_on_after_a_crash(api: Api, attempt: MakeContext, database: Database) -> None:
    """The next attempt neither reads the sitemap again nor asks for a page that is stored; the counts are of both."""
    urls = serve_pages(api, 10)
    sitemap = serve(api, "/sitemap.xml", urlset(urls))
    with pytest.raises(Crash):
        await check(attempt(before_look=once_asked(api, 6, crash)), sitemap=sitemap, concurrency=1)
    done = [url for url, verdict in stored(database, "url", "verdict") if verdict]
    assert done == urls[: len(done)]
    assert len(done) >= 4
    asked = len(asked_for(api))
    serve(api, "/sitemap.xml", urlset([]))
    ctx = attempt(fence=2)
    result = await check(ctx, sitemap=sitemap, concurrency=1)
    assert (result["total"], result["verdicts"], result["sitemaps"]) == (10, {"ok": 10}, 1)
    assert [api.url(path) for path in asked_for(api)[asked:]] == urls[len(done) :]
    assert ctx.progresses[0]["processed"] == len(done)


async def test_cancel_in_the_middle(
    api: Api, attempt: MakeContext, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cancel is noticed between pages; what was judged is stored, and nothing is asked for afterwards."""
    monkeypatch.setattr(loop, "_STORED", 100)
    monkeypatch.setattr(loop, "_STORE", 60.0)
    urls = serve_pages(api, 10)
    with pytest.raises(Cancelled):
        await check(attempt(before_look=once_asked(api, 4, cancel)), urls=urls, concurrency=1)
    assert asked_for(api) == ["/p1", "/p2", "/p3", "/p4"]
    assert [verdict for (verdict,) in stored(database, "verdict")] == ["ok"] * 4 + [None] * 6


async def test_cancel_while_all_pages_hang(api: Api, attempt: MakeContext, database: Database) -> None:
    """It is not the slowest page that decides when a cancel is noticed; what is done by then is kept."""
    free, reached = threading.Event(), threading.Event()

    def hangs(_: Asked) -> Reply:
        reached.set()
        assert free.wait(30)
        return Reply(b"")

    api.routes["/hangs"] = hangs
    urls = [*serve_pages(api, 1), api.url("/hangs")]

    def stop(ctx: RecordingContext) -> None:
        if reached.is_set():
            ctx.reason = CancelReason.SHUTDOWN

    try:
        async with asyncio.timeout(10):
            with pytest.raises(Cancelled):
                await check(attempt(before_look=stop), urls=urls, timeout="30s")
    finally:
        free.set()
    assert [verdict for (verdict,) in stored(database, "verdict")] == ["ok", None]


async def test_a_cancelled_task_leaves_nothing_behind(
    api: Api, attempt: MakeContext, database: Database
) -> None:
    """The engine may cancel the task at any await: no page of it is under way afterwards."""
    free, reached = threading.Event(), asyncio.Event()
    main = asyncio.get_running_loop()

    def hangs(_: Asked) -> Reply:
        main.call_soon_threadsafe(reached.set)
        assert free.wait(30)
        return Reply(b"")

    api.routes["/hangs"] = hangs
    before = asyncio.all_tasks()
    task = asyncio.create_task(check(attempt(), urls=[api.url("/hangs")], timeout="30s"))
    try:
        await reached.wait()
        task.cancel()
        await asyncio.wait({task}, timeout=10)
        assert task.cancelled()
        assert asyncio.all_tasks() == before
    finally:
        free.set()


async def test_a_finished_check_is_not_done_again(api: Api, attempt: MakeContext, database: Database) -> None:
    """A worker that died before it could say so: the next one just says so, shared titles included."""
    urls = [serve(api, f"/{n}", page(api.url(f"/{n}"), "Same")) for n in range(3)]
    first = await check(attempt(), urls=urls)
    asked = len(api.asked)
    second = await check(attempt(fence=2), urls=urls)
    assert len(api.asked) == asked
    assert second | {"duration_s": 0} == first | {"duration_s": 0}
    assert first["verdicts"] == {"title_duplicate": 3}


async def test_changed_params_start_anew(api: Api, attempt: MakeContext, database: Database) -> None:
    """What was found under other params is no part of the check."""
    urls = serve_pages(api, 4)
    await check(attempt(), urls=urls)
    assert (await check(attempt(fence=2), urls=urls[:2]))["total"] == 2
    assert stored(database, "url") == [(url,) for url in urls[:2]]


async def test_a_worker_that_was_replaced_writes_nothing(
    api: Api, attempt: MakeContext, database: Database
) -> None:
    """While one worker hangs in a page, another finishes the run: the first finds out before it writes."""
    free, reached = threading.Event(), asyncio.Event()
    main = asyncio.get_running_loop()
    (url,) = serve_pages(api, 1)
    good = api.routes["/p1"]

    def hangs(_: Asked) -> Reply:
        main.call_soon_threadsafe(reached.set)
        assert free.wait(30)
        return Reply(b"", 404)

    api.routes["/p1"] = hangs
    old = asyncio.create_task(check(attempt(fence=1), urls=[url], timeout="30s"))
    await reached.wait()
    api.routes["/p1"] = good
    assert (await check(attempt(fence=2), urls=[url], timeout="30s"))["verdicts"] == {"ok": 1}
    free.set()
    with pytest.raises(StaleLease):
        await old
    assert stored(database, "verdict") == [("ok",)]
    with pytest.raises(StaleLease):
        await check(attempt(fence=1), urls=[url], timeout="30s")


async def test_pages_of_old_checks_are_cleared_away(
    api: Api, attempt: MakeContext, database: Database
) -> None:
    """Reports of the last 30 days stay in the table, older ones go with the next check."""
    urls = serve_pages(api, 2)
    await check(attempt(), urls=urls)
    await check(attempt(run_id=OTHER_RUN), urls=urls)
    assert database.count("sitemap_check_pages") == 4
    database.execute(f"UPDATE _jobdeck_sitemap_checks SET updated_at = 0 WHERE run_id <> '{OTHER_RUN.hex}'")
    await check(attempt(run_id=OTHER_RUN, fence=2), urls=urls[:1])
    assert [run for (run,) in stored(database, "run_id")] == [OTHER_RUN.hex]


async def test_problem_pages_are_logged_within_bounds(
    api: Api, attempt: MakeContext, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each page with a problem is a line of the log, up to a bound that the log names."""
    monkeypatch.setattr(loop, "LOGGED", 3)
    urls = [api.url(f"/none{n}") for n in range(8)]
    ctx = attempt()
    await check(ctx, urls=urls, concurrency=1)
    assert ctx.log.with_message("http_error") == [
        {"url": url, "status": 404, "detail": "answered 404"} for url in urls[:3]
    ]
    assert [level for level, _, _ in ctx.log.entries] == ["warn"] * 4
    assert ctx.progresses[-1]["failed"] == 8


async def test_without_a_data_file_nothing_is_asked(api: Api, attempt: MakeContext) -> None:
    """The run ends at once and says why."""
    with pytest.raises(Discard, match="no data file"):
        await check(attempt(settings={}), urls=[api.url("/")])
    assert api.asked == []


def test_it_is_registered_like_any_other(database_kind: str) -> None:
    """The entry point names the spec, with its category and its attempts."""
    assert (sitemap_check.job_type, sitemap_check.category, sitemap_check.single_flight) == (
        "sitemap_check",
        "seo",
        True,
    )
    assert sitemap_check.schema()["properties"]["timeout"]["default"] == "15s"
