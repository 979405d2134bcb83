"""`http_sync` over several attempts: after a crash, after a cancel, and with two workers that both hold the run."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from jobdeck import Cancelled, CancelReason, Retry, StaleLease
from jobdeck_handlers.databases import target
from jobdeck_handlers.http_sync import checkpoint
from tests.handlers.api import Api, Asked, Reply
from tests.handlers.conftest import MakeContext
from tests.handlers.context import OTHER_RUN, THIRD_RUN, RecordingContext
from tests.handlers.databases import Database
from tests.handlers.syncing import BY_PAGE, counts, sync, users


class Crash(BaseException):
    """The worker dies here: no handler catches this."""


class Gate:
    """A route that keeps its first request waiting until it is opened; others pass."""

    def __init__(self, route: Callable[[Asked], Reply], page: int) -> None:
        self._route, self._page, self._loop = route, page, asyncio.get_running_loop()
        self._free = threading.Event()
        self._taken = False
        self.reached = asyncio.Event()

    def __call__(self, asked: Asked) -> Reply:
        if asked.query["page"] == str(self._page) and not self._taken:
            self._taken = True
            self._loop.call_soon_threadsafe(self.reached.set)
            assert self._free.wait(30)
        return self._route(asked)

    def open(self) -> None:
        self._free.set()


def stops_after(looks: int, stop: Callable[[RecordingContext], None]) -> Callable[[RecordingContext], None]:
    """Does `stop` at the look for a cancel that comes after so many others; a page has two of them."""
    left = looks

    def look(ctx: RecordingContext) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            stop(ctx)

    return look


def crash(_: RecordingContext) -> None:
    raise Crash


def cancel(ctx: RecordingContext) -> None:
    ctx.reason = CancelReason.USER


@pytest.mark.parametrize("mode", ["upsert", "insert", "replace"])
@pytest.mark.parametrize("looks", [2, 3], ids=["between pages", "with a page in hand"])
async def test_goes_on_after_a_crash(
    mode: str, looks: int, api: Api, attempt: MakeContext, database: Database
) -> None:
    """The next attempt asks only for the pages that are missing, and its counts are totals of both."""
    api.records = [*users(24), {"name": "no key"}]
    with pytest.raises(Crash):
        await sync(attempt(before_look=stops_after(looks, crash)), api.url("/pages"), **BY_PAGE, mode=mode)
    asked = len(api.asked)
    ctx = attempt(fence=2)
    result = await sync(ctx, api.url("/pages"), **BY_PAGE, mode=mode)
    assert (counts(result), result["pages"]) == ((24, 0, 1), 3)
    assert [each.query["page"] for each in api.asked[asked:]] == ["2", "3", "4"]
    assert database.column("SELECT id FROM users ORDER BY id") == list(range(1, 25))
    assert ctx.progresses[0]["message"] == "Synced 10 users, 0 skipped"


async def test_no_row_is_doubled_without_a_key(api: Api, attempt: MakeContext, database: Database) -> None:
    """Also where rows cannot be told apart, a page that is in the table is not asked for again."""
    api.records = [{"n": 1}] * 25
    # Pages of equal records would look like a source that ignores the page number.
    for n, each in enumerate(list(api.records)):
        api.records[n] = each | {"page": n // 10}
    with pytest.raises(Crash):
        await sync(
            attempt(before_look=stops_after(2, crash)), api.url("/pages"), **BY_PAGE, mode="insert", key=[]
        )
    await sync(attempt(fence=2), api.url("/pages"), **BY_PAGE, mode="insert", key=[])
    assert database.count("users") == 25


async def test_a_page_and_its_checkpoint_are_one(
    api: Api, attempt: MakeContext, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash after the rows and before the checkpoint leaves neither, not even the table made for them."""
    api.records = users(5)

    def dies(*_: Any) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", dies)
        with pytest.raises(Crash):
            await sync(attempt(), api.url("/everything"))
    assert "users" not in database.tables()
    assert counts(await sync(attempt(fence=2), api.url("/everything"))) == (5, 0, 0)


async def test_a_finished_sync_is_not_done_again(api: Api, attempt: MakeContext, database: Database) -> None:
    """A worker that died after the last page and before it could say so: the next one just says so."""
    api.records = users(5)
    first = await sync(attempt(), api.url("/everything"))
    api.records = users(9)
    assert await sync(attempt(fence=2), api.url("/everything")) == first
    assert len(api.asked) == 1


async def test_changed_params_start_anew(api: Api, attempt: MakeContext, database: Database) -> None:
    """A checkpoint made for another question is of no use, and neither are its counts."""
    api.records = users(25)
    with pytest.raises(Crash):
        await sync(attempt(before_look=stops_after(2, crash)), api.url("/pages"), **BY_PAGE, mode="replace")
    result = await sync(attempt(fence=2), api.url("/pages"), **BY_PAGE)
    assert counts(result) == (25, 0, 0)
    assert database.tables() == {"users", "_jobdeck_sync", "_jobdeck_sync_since"}


@pytest.mark.parametrize("fence", [2, 1], ids=["newer fence", "same fence"])
@pytest.mark.parametrize("mode", ["upsert", "insert", "replace"])
async def test_a_worker_that_was_replaced_writes_nothing(
    mode: str, fence: int, api: Api, attempt: MakeContext, database: Database
) -> None:
    """While one worker hangs in page 3, another finishes the run: the first finds out before it writes."""
    api.records = users(25)
    gate = api.routes["/gated"] = Gate(api.builtin("/pages"), page=3)
    url = api.url("/gated")
    old = asyncio.create_task(sync(attempt(fence=1), url, **BY_PAGE, mode=mode))
    await gate.reached.wait()
    result = await sync(attempt(fence=fence), url, **BY_PAGE, mode=mode)
    assert counts(result) == (25, 0, 0)
    database.execute("UPDATE users SET name = 'by hand'")
    before = database.rows("SELECT * FROM _jobdeck_sync")
    gate.open()
    with pytest.raises(StaleLease):
        await old
    assert database.column("SELECT DISTINCT name FROM users") == ["by hand"]
    assert database.count("users") == 25
    assert database.rows("SELECT * FROM _jobdeck_sync") == before


async def test_taking_over_is_enough_to_stop_the_other(
    api: Api, attempt: MakeContext, database: Database
) -> None:
    """The first worker is out as soon as the second has begun, even if that has stored nothing yet."""
    api.records = users(25)
    gate = api.routes["/gated"] = Gate(api.builtin("/pages"), page=2)
    old = asyncio.create_task(sync(attempt(fence=1), api.url("/gated"), **BY_PAGE))
    await gate.reached.wait()
    with pytest.raises(Crash):
        await sync(attempt(fence=2, before_look=crash), api.url("/gated"), **BY_PAGE)
    gate.open()
    with pytest.raises(StaleLease):
        await old
    assert database.count("users") == 10


async def test_an_older_fence_cannot_take_over(api: Api, attempt: MakeContext, database: Database) -> None:
    """A worker that wakes up before its first transaction neither asks the source nor moves the fence."""
    api.records = users(5)
    with pytest.raises(Crash):
        await sync(attempt(fence=2, before_look=crash), api.url("/everything"))
    with pytest.raises(StaleLease):
        await sync(attempt(fence=1), api.url("/everything"))
    assert api.asked == []
    assert database.column("SELECT fence FROM _jobdeck_sync") == [2]


@pytest.mark.parametrize("mode", ["upsert", "insert"])
async def test_cancel_keeps_what_is_there(
    mode: str, api: Api, attempt: MakeContext, database: Database
) -> None:
    """A cancel is noticed before the next page; the pages stored so far stay."""
    api.records = users(25)
    with pytest.raises(Cancelled):
        await sync(attempt(before_look=stops_after(4, cancel)), api.url("/pages"), **BY_PAGE, mode=mode)
    assert database.count("users") == 20
    assert len(api.asked) == 2


async def test_replace_shows_all_or_nothing(api: Api, attempt: MakeContext, database: Database) -> None:
    """While a replace is under way, and after it was cancelled, the table has its old content."""
    api.records = users(5)
    await sync(attempt(), api.url("/everything"), mode="replace")
    api.records = users(25, start=100)
    gate = api.routes["/gated"] = Gate(api.builtin("/pages"), page=3)
    running = asyncio.create_task(
        sync(attempt(run_id=OTHER_RUN), api.url("/gated"), **BY_PAGE, mode="replace")
    )
    await gate.reached.wait()
    assert database.column("SELECT id FROM users ORDER BY id") == [1, 2, 3, 4, 5]
    gate.open()
    await running
    assert database.count("users") == 25
    ctx = attempt(run_id=THIRD_RUN, before_look=stops_after(4, cancel))
    with pytest.raises(Cancelled):
        await sync(ctx, api.url("/pages"), **BY_PAGE, mode="replace")
    assert database.count("users") == 25


async def test_a_cancelled_task_leaves_no_half_page(
    api: Api, attempt: MakeContext, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine may cancel the task at any await: a transaction that has begun is ended first, and is known."""
    api.records = users(5)
    save = checkpoint.save

    def interrupted(*args: Any) -> Any:
        task.cancel()
        return save(*args)

    monkeypatch.setattr(checkpoint, "save", interrupted)
    task = asyncio.create_task(sync(attempt(), api.url("/everything")))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert database.count("users") == 5
    monkeypatch.undo()
    assert counts(await sync(attempt(fence=2), api.url("/everything"))) == (5, 0, 0)


async def test_remains_of_old_runs_are_cleared_away(
    api: Api, attempt: MakeContext, database: Database
) -> None:
    """A run that was given up a week ago leaves no staging table and no checkpoint; a younger one keeps both."""
    api.records = users(25)
    for run_id in (OTHER_RUN, THIRD_RUN):
        ctx = attempt(run_id=run_id, before_look=stops_after(2, cancel))
        with pytest.raises(Cancelled):
            await sync(ctx, api.url("/pages"), **BY_PAGE, mode="replace")
    database.execute(f"UPDATE _jobdeck_sync SET updated_at = 0 WHERE run_id = '{OTHER_RUN.hex}'")
    await sync(attempt(), api.url("/pages"), **BY_PAGE)
    assert {name for name in database.tables() if "stage" in name} == {f"_jobdeck_stage_{THIRD_RUN.hex}"}
    assert OTHER_RUN.hex not in database.column("SELECT run_id FROM _jobdeck_sync")


@pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)
async def test_a_frozen_worker_does_not_keep_its_locks(
    api: Api, attempt: MakeContext, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that stops inside a transaction loses it to the server's timeout, and another can take over."""
    monkeypatch.setitem(target._POSTGRES_SETTINGS, "idle_in_transaction_session_timeout", "200")
    api.records = users(5)
    save = checkpoint.save
    alive = (
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE datname = current_database() AND application_name = 'jobdeck http_sync'"
    )

    def freezes(*args: Any) -> Any:
        while database.column(alive) != [0]:
            pass
        return save(*args)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", freezes)
        with pytest.raises(Retry, match="target database"):
            await sync(attempt(), api.url("/everything"))
    assert counts(await sync(attempt(fence=2), api.url("/everything"))) == (5, 0, 0)
