"""`llm_batch` over several attempts, at a cancel, with many requests at a time and with many rows."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from jobdeck import Cancelled, CancelReason, GuardedClient, Retry
from jobdeck.net import AddressPolicy
from jobdeck.testing import run_handler
from jobdeck_handlers.llm_batch import batch, llm_batch
from jobdeck_handlers.llm_batch.answer import Answer
from jobdeck_handlers.llm_batch.output import Output
from tests.handlers.api import Api, Asked, Reply
from tests.handlers.chat import PATH, Chat, ask, completion, counts, items
from tests.handlers.conftest import MakeContext
from tests.handlers.context import OTHER_RUN, RecordingContext
from tests.handlers.databases import Database

sqlite_only = pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)


class Crash(BaseException):
    """The worker dies here: no handler catches this."""


@pytest.fixture
def chat(api: Api) -> Chat:
    return Chat(api)


def once_stored(
    database: Database, rows: int, then: Callable[[RecordingContext], None]
) -> Callable[[RecordingContext], None]:
    """At a look for a cancel: does `then` if so many answers are stored."""

    def look(ctx: RecordingContext) -> None:
        if "answers" in database.tables() and database.count("answers") >= rows:
            then(ctx)

    return look


def crash(_: RecordingContext) -> None:
    raise Crash


def cancel(ctx: RecordingContext) -> None:
    ctx.reason = CancelReason.USER


def twice(chat: Chat) -> set[str]:
    """What the server was asked more than once."""
    return {prompt for prompt, times in Counter(chat.prompts).items() if times > 1}


def stored(database: Database) -> set[str]:
    return {f"text {n}" for n in database.column("SELECT id FROM answers")}


async def test_after_a_crash_only_what_was_under_way_is_asked_again(
    chat: Chat, api: Api, attempt: MakeContext, database: Database
) -> None:
    """The next attempt goes on with the rows that have no answer, and its counts are totals of both."""
    items(database, 30)
    with pytest.raises(Crash):
        await ask(attempt(before_look=once_stored(database, 10, crash)), api)
    before = stored(database)
    ctx = attempt(fence=2)
    result = await ask(ctx, api)
    assert (counts(result), result["total_tokens"]) == ((30, 0, 0), 300)
    assert len(before) >= 10
    assert not twice(chat) & before
    assert len(twice(chat)) <= 4
    assert set(chat.prompts) == stored(database)
    assert ctx.progresses[0]["processed"] == len(before)


async def test_answers_are_stored_before_more_is_asked(
    chat: Chat, api: Api, attempt: MakeContext, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that dies with answers in its hands has as many of them as it sends at a time, and no more."""
    items(database, 30)
    store = Output.store

    async def dies(self: Output, answers: Sequence[Answer]) -> None:
        if database.count("answers") >= 10:
            raise Crash
        await store(self, answers)

    with monkeypatch.context() as patch:
        patch.setattr(Output, "store", dies)
        with pytest.raises(Crash):
            await ask(attempt(), api, concurrency=3)
    before = stored(database)
    assert len(set(chat.prompts) - before) <= 3
    assert counts(await ask(attempt(fence=2), api)) == (30, 0, 0)
    assert not twice(chat) & before


async def test_failed_rows_wait_for_another_run(
    chat: Chat, api: Api, attempt: MakeContext, database: Database
) -> None:
    """A row that has failed is not asked about again by a later attempt of its run, and is by another run."""
    items(database, 12)
    chat.plans = {f"text {n}": deque([Reply({"error": "no"}, 400)]) for n in (1, 2)}
    with pytest.raises(Crash):
        await ask(attempt(before_look=once_stored(database, 6, crash)), api)
    assert counts(await ask(attempt(fence=2), api)) == (10, 2, 0)
    assert not twice(chat) & {"text 1", "text 2"}
    assert counts(await ask(attempt(run_id=OTHER_RUN), api)) == (2, 0, 10)
    assert database.column("SELECT id FROM answers WHERE error IS NOT NULL") == []


async def test_an_answer_that_is_there_already_stays(
    chat: Chat, api: Api, attempt: MakeContext, database: Database
) -> None:
    """Of two workers that both hold the run, the later one does not replace what the first has stored."""
    items(database, 2)
    chat.held.clear()
    loop, reached = asyncio.get_running_loop(), asyncio.Event()
    answer = chat.answer

    def announced(asked: Asked) -> Reply:
        loop.call_soon_threadsafe(reached.set)
        return answer(asked)

    api.routes[PATH] = announced
    late = asyncio.create_task(ask(attempt(), api, concurrency=1))
    await reached.wait()
    api.routes[PATH] = lambda _: completion("first")
    await ask(attempt(fence=2), api)
    chat.held.set()
    await late
    assert database.column("SELECT answer FROM answers ORDER BY id") == ["first", "first"]


async def test_a_target_that_is_away_for_a_moment_costs_no_answers(
    chat: Chat, api: Api, attempt: MakeContext, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers are paid for: they wait for a target that comes back, and end the attempt only where it does not."""
    items(database, 6)
    store, refusals = Output.store, 2

    async def away(self: Output, answers: Sequence[Answer]) -> None:
        nonlocal refusals
        refusals -= 1
        if refusals >= 0:
            raise Retry("the target database: locked")
        await store(self, answers)

    monkeypatch.setattr(Output, "store", away)
    ctx = attempt()
    assert counts(await ask(ctx, api)) == (6, 0, 0)
    assert (twice(chat), ctx.slept) == (set(), [1.0, 5.0])
    items(database, 6, start=7)
    refusals = 1_000
    with pytest.raises(Retry, match="locked"):
        await ask(attempt(run_id=OTHER_RUN), api)


async def test_cancel_keeps_what_is_there(
    chat: Chat, api: Api, attempt: MakeContext, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a cancel nothing more is asked; what was under way and comes soon is stored."""
    monkeypatch.setattr(batch, "LAST_CALL_CANCELLED", 10.0)
    items(database, 40)
    with pytest.raises(Cancelled):
        await ask(attempt(before_look=once_stored(database, 8, cancel)), api)
    assert 8 <= len(chat.prompts) < 30
    assert set(chat.prompts) == stored(database)


@sqlite_only
@pytest.mark.parametrize("waits", ["for an answer", "for the end of a pause", "between requests"])
async def test_a_cancel_is_noticed_within_a_second(
    waits: str, chat: Chat, api: Api, database: Database
) -> None:
    """In the engine's own pipeline, wherever the run is when the cancel comes."""
    items(database, 5_000)
    if waits == "for an answer":
        chat.held.clear()
    elif waits == "for the end of a pause":
        chat.plan.extend([Reply(status=429, headers={"Retry-After": "60"})] * 10)
    params = {
        "base_url": api.url("/v1"),
        "model": "m",
        "prompt": "{body}",
        "table": "items",
        "output": "answers",
        "concurrency": 2,
    }
    asked = asyncio.Event()
    loop, answer = asyncio.get_running_loop(), api.routes[PATH]
    began = 0.0

    def announced(request: Asked) -> Reply:
        nonlocal began
        began = began or time.monotonic()
        loop.call_soon_threadsafe(asked.set)
        return answer(request)

    api.routes[PATH] = announced
    ended = await run_handler(
        llm_batch,
        params,
        settings={"data_file_url": database.url},
        allow=["127.0.0.1/32"],
        cancel_after=0.7,
    )
    elapsed = time.monotonic() - began
    chat.held.set()
    assert ended.outcome == "cancelled"
    assert asked.is_set()
    assert elapsed < 0.7 + 1.0
    assert len(chat.prompts) < 5_000


@sqlite_only
async def test_a_cancelled_task_leaves_nothing_behind(
    chat: Chat, api: Api, attempt: MakeContext, database: Database
) -> None:
    """The engine may cancel the task at any await: its requests end with it."""
    items(database, 5)
    chat.held.clear()
    loop, reached = asyncio.get_running_loop(), asyncio.Event()
    answer = chat.answer

    def announced(asked: Asked) -> Reply:
        loop.call_soon_threadsafe(reached.set)
        return answer(asked)

    api.routes[PATH] = announced
    others = asyncio.all_tasks()
    task = asyncio.create_task(ask(attempt(), api))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.all_tasks() == others
    chat.held.set()


@sqlite_only
@pytest.mark.parametrize("concurrency", [1, 3, 10])
async def test_as_many_at_a_time_as_asked_for(
    concurrency: int, chat: Chat, api: Api, attempt: MakeContext, database: Database
) -> None:
    """The server sees so many requests at the same time, never more, however long they take."""
    items(database, 40)
    chat.held.clear()
    looks = 0

    def look(_: RecordingContext) -> None:
        nonlocal looks
        # A look after all places are taken, and then two more: nothing else is sent in between.
        looks = looks + 1 if len(chat.prompts) >= concurrency else 0
        if looks == 3:
            assert len(chat.prompts) == concurrency
            chat.held.set()

    assert counts(await ask(attempt(before_look=look), api, concurrency=concurrency)) == (40, 0, 0)
    assert chat.peak == concurrency


@sqlite_only
async def test_twenty_thousand_rows_need_no_more_memory_than_a_few(api: Api, database: Database) -> None:
    """Rows, answers and skipped keys are in memory a page at a time: 20,000 rows of 4 KB, 15,000 answered before."""
    database.execute(
        "CREATE TABLE items AS WITH RECURSIVE n (id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < 20000) "
        "SELECT id, printf('%d:%.*c', id, 4000, 'x') AS body FROM n"
    )
    asked: Counter[str] = Counter()
    lock = threading.Lock()

    def answer(request: Asked) -> Reply:
        prompt = json.loads(request.body)["messages"][0]["content"]
        with lock:
            asked[prompt.partition(":")[0]] += 1
            api.asked.clear()
        return completion(prompt)

    api.routes[PATH] = answer
    async with GuardedClient(AddressPolicy(["127.0.0.1/32"]), per_host=32) as client:
        ctx = RecordingContext(client, {"data_file_url": database.url}, progresses=_Last())
        ctx.before_look = _after(100, crash)
        with pytest.raises(Crash):
            await ask(ctx, api, concurrency=32)
        ctx.before_look = lambda _: None
        database.execute(
            "INSERT INTO answers "
            "SELECT items.id, body, 'stop', 7, 3, 10, NULL, 'm', prompt_hash, 'another', finished_at "
            "FROM items, (SELECT prompt_hash, finished_at FROM answers LIMIT 1) WHERE items.id > 5000"
        )
        with grown() as megabytes:
            result = await ask(ctx, api, concurrency=32)
    assert counts(result) == (5_000, 0, 15_000)
    assert sum(asked.values()) - len(asked) <= 32
    assert len(asked) == 5_000
    assert database.count("answers") == 20_000
    assert megabytes[0] < 16


@contextmanager
def grown() -> Iterator[list[float]]:
    """By how much the memory of this process has grown in the block, at its peak."""
    Path("/proc/self/clear_refs").write_text("5")
    before, found = _megabytes("VmRSS"), [0.0]
    yield found
    found[0] = _megabytes("VmHWM") - before


def _megabytes(name: str) -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{name}:")[2].split()[0]) / 1024


class _Last(list[Any]):
    """Keeps the last entry alone."""

    def append(self, entry: Any) -> None:
        self[:] = [entry]


def _after(looks: int, then: Callable[[RecordingContext], None]) -> Callable[[RecordingContext], None]:
    left = looks

    def look(ctx: RecordingContext) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            then(ctx)

    return look


def test_a_look_for_a_cancel_comes_often_enough() -> None:
    """A cancel is to be noticed within a second, the last call for answers included."""
    assert batch.LOOK_SECONDS + batch.LAST_CALL_CANCELLED < 1.0
