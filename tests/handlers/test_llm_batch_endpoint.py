"""`llm_batch` and an endpoint that is slow, broken, hostile or dear. The database does not matter here, mostly."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import deque
from datetime import timedelta

import pytest

from jobdeck import Discard, GuardedClient, Retry, Snooze
from jobdeck.net import AddressPolicy
from jobdeck.testing.clock import FakeClock
from jobdeck_handlers.llm_batch import asking, endpoint, table_input
from tests.handlers.api import Api, Asked, Reply
from tests.handlers.chat import PATH, Chat, ask, completion, counts, items
from tests.handlers.conftest import MakeContext
from tests.handlers.context import OTHER_RUN, RecordingContext
from tests.handlers.databases import Database

on_sqlite = pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
KEY = 'sk-"very"-secret'


@pytest.fixture
def chat(api: Api) -> Chat:
    return Chat(api)


def errors(database: Database) -> dict[int, str | None]:
    return {row["id"]: row["error"] for row in database.rows("SELECT id, error FROM answers")}


@pytest.mark.parametrize("status", [429, 503])
async def test_waits_as_long_as_the_endpoint_asks(
    status: int, chat: Chat, api: Api, attempt: MakeContext, database: Database
) -> None:
    """Retry-After is honoured, up to as long again is waited, and then the row gets its answer."""
    items(database, 1)
    chat.plan.append(Reply({"error": "slow down"}, status, {"Retry-After": "9"}))
    ctx = attempt()
    assert counts(await ask(ctx, api)) == (1, 0, 0)
    assert len(ctx.slept) == 1
    assert 9 <= ctx.slept[0] <= 18
    [waited] = ctx.log.with_message("waiting for the endpoint")
    assert waited["reason"].startswith(f'127.0.0.1 answered {status}: {{"error": "slow down"}}')


@on_sqlite
async def test_a_failing_endpoint_is_asked_again(
    chat: Chat, api: Api, attempt: MakeContext, database: Database
) -> None:
    """500, a gateway's page in HTML and a broken connection cost a wait with jitter each, and no row."""
    items(database, 2)
    chat.plans["text 1"] = deque(
        [Reply({"error": "oops"}, 500), Reply(b"<html>", 200), Reply(b"<html>", 502), Reply(b"", 408)]
    )
    ctx = attempt()
    assert counts(await ask(ctx, api)) == (2, 0, 0)
    assert chat.prompts.count("text 1") == 5
    assert len(ctx.slept) == 4
    assert all(0 <= seconds <= 2.0**n for n, seconds in enumerate(ctx.slept))


@on_sqlite
async def test_retries_are_bounded(chat: Chat, api: Api, attempt: MakeContext, database: Database) -> None:
    """A row that the endpoint always fails on is a failed row, once another one shows that the endpoint works."""
    items(database, 3)
    chat.plans["text 2"] = deque([Reply({"error": "oops"}, 500)] * 9)
    assert counts(await ask(attempt(), api, retries=2, concurrency=1)) == (2, 1, 0)
    assert chat.prompts.count("text 2") == 3
    assert errors(database) == {1: None, 2: '127.0.0.1 answered 500: {"error": "oops"}', 3: None}


@on_sqlite
async def test_an_endpoint_that_is_down_does_not_fail_the_rows(
    chat: Chat, api: Api, attempt: MakeContext, database: Database
) -> None:
    """Where no row gets an answer any more the attempt ends: all of them are asked about again, later."""
    items(database, 50)
    good, chat.plan = chat.plan, deque([Reply(status=500)] * 1_000)
    with pytest.raises(Retry, match=r"4 rows in a row: 127\.0\.0\.1 answered 500"):
        await ask(attempt(), api, retries=1)
    assert len(chat.prompts) < 20
    assert database.count("answers") == 0
    with pytest.raises(Retry, match="cannot be reached"):
        await ask(attempt(), api, base_url="http://127.0.0.1:9/v1", retries=0)
    chat.plan = good
    assert counts(await ask(attempt(fence=2), api)) == (50, 0, 0)


@on_sqlite
@pytest.mark.parametrize("status", [400, 403, 413, 422])
async def test_a_refused_row_fails_alone(
    status: int, chat: Chat, api: Api, attempt: MakeContext, database: Database
) -> None:
    """What the endpoint says about one row is that row's failure, without a second try; the result names it."""
    items(database, 3)
    chat.plans["text 2"] = deque([Reply({"error": {"message": "too\x1b[2J long"}}, status)])
    ctx = attempt()
    result = await ask(ctx, api)
    assert counts(result) == (2, 1, 0)
    assert len(chat.prompts) == 3
    assert [each["key"] for each in result["errors"]] == ["2"]
    assert result["errors"][0]["error"].startswith(f"127.0.0.1 answered {status}: ")
    assert ctx.progresses[-1]["message"] == "Answered 2, 1 failed, 20 tokens"
    assert [each["key"] for each in ctx.log.with_message("row not answered")] == ["2"]


@on_sqlite
@pytest.mark.parametrize("status", [301, 401, 402, 404])
async def test_what_every_row_would_meet_ends_the_run(
    status: int, chat: Chat, api: Api, attempt: MakeContext, database: Database
) -> None:
    """A wrong address, key or model, or an account without money, is no failure of thousands of rows."""
    items(database, 50)
    chat.plan.extend([Reply({"error": "no"}, status, {"Location": api.url("/other")})] * 50)
    with pytest.raises(Discard, match=f"answered {status}"):
        await ask(attempt(), api)
    assert len(chat.prompts) <= 4
    assert database.count("answers") == 0


@on_sqlite
async def test_a_batch_without_any_answer_is_no_success(
    chat: Chat, api: Api, attempt: MakeContext, database: Database
) -> None:
    """Where every row failed, the run has failed too, with the first reason."""
    items(database, 3)
    chat.plan.extend([Reply({"error": "unknown option"}, 400)] * 3)
    with pytest.raises(Discard, match=r"none of 3 rows was answered; the first: .*unknown option"):
        await ask(attempt(), api)
    assert len(errors(database)) == 3


@on_sqlite
async def test_a_slow_answer_is_given_up(
    chat: Chat, api: Api, attempt: MakeContext, database: Database
) -> None:
    """A request that takes longer than its timeout is sent again, and fails its row in the end."""
    items(database, 2)
    release = threading.Event()

    def slow(asked: Asked) -> Reply:
        if b"text 1" in asked.body:
            release.wait(30)
        return completion("quick")

    api.routes[PATH] = slow
    try:
        result = await ask(attempt(), api, timeout="200ms", retries=1)
    finally:
        release.set()
    assert counts(result) == (1, 1, 0)
    assert "did not finish within 0.2 s" in str(errors(database)[1])
    assert sum(b"text 1" in asked.body for asked in api.asked) == 2


@on_sqlite
async def test_a_prompt_that_is_too_long_is_not_sent(
    chat: Chat, api: Api, attempt: MakeContext, database: Database
) -> None:
    """A row of any size costs no more memory than a prompt may have, and fails alone."""
    items(database, 1)
    database.execute("INSERT INTO items VALUES (2, printf('%.*c', 30000000, 'x'))")
    assert counts(await ask(attempt(), api)) == (1, 1, 0)
    assert errors(database)[2] == f"the prompt has more than {table_input.PROMPT_BYTES:,} bytes"
    assert chat.prompts == ["text 1"]


async def test_the_budget_ends_the_run_in_order(
    chat: Chat, api: Api, attempt: MakeContext, database: Database
) -> None:
    """Nothing is asked once the tokens are used up; what is answered stays; a larger budget goes on from there."""
    items(database, 20)
    with pytest.raises(
        Discard, match=r"stopped at the budget: 30 of 25 tokens used, 3 rows answered, 17 left"
    ):
        await ask(attempt(), api, max_total_tokens=25, concurrency=1)
    assert database.column("SELECT id FROM answers ORDER BY id") == [1, 2, 3]
    # What an earlier attempt of the same run has used counts, too.
    with pytest.raises(Discard, match="30 of 25 tokens used"):
        await ask(attempt(fence=2), api, max_total_tokens=25)
    assert len(chat.prompts) == 3
    assert counts(await ask(attempt(run_id=OTHER_RUN), api, max_total_tokens=170)) == (17, 0, 3)
    assert len(chat.prompts) == 20


@on_sqlite
async def test_a_budget_needs_an_endpoint_that_counts(
    chat: Chat, api: Api, attempt: MakeContext, database: Database
) -> None:
    """Tokens are not guessed: where the endpoint does not say what it used, a run with a budget ends."""
    items(database, 20)
    chat.plan.append(completion("yes", usage=None))
    with pytest.raises(Discard, match="does not say how many tokens it used"):
        await ask(attempt(), api, max_total_tokens=1_000, concurrency=1)
    assert database.column("SELECT answer FROM answers") == ["yes"]


@on_sqlite
async def test_a_long_pause_gives_the_slot_back(
    chat: Chat, api: Api, attempt: MakeContext, database: Database, clock: FakeClock
) -> None:
    """What would take longer than five minutes comes as a later attempt; only one without progress counts as failed."""
    items(database, 6)
    stop = Reply(status=429, headers={"Retry-After": "3600"})
    chat.plans["text 3"] = deque([stop])
    with pytest.raises(Snooze, match="answered 429") as caught:
        await ask(attempt(), api, concurrency=1)
    assert timedelta(hours=1) <= caught.value.delay <= timedelta(hours=1, minutes=1)
    assert database.count("answers") == 2
    with pytest.raises(Retry, match="left alone for another 3600 s"):
        await ask(attempt(fence=2), api, concurrency=1)
    assert len(chat.prompts) == 3
    clock.advance(3_600)
    assert counts(await ask(attempt(fence=3), api)) == (6, 0, 0)
    assert chat.prompts.count("text 3") == 2


@on_sqlite
async def test_waits_of_one_row_add_up_to_five_minutes(
    chat: Chat, api: Api, attempt: MakeContext, database: Database
) -> None:
    """An endpoint that always asks to be spared, and never says for how long, is not asked for ever."""
    items(database, 1)
    chat.plan.extend([Reply(status=429)] * 500)
    ctx = attempt()
    with pytest.raises(Retry, match="answered 429"):
        await ask(ctx, api)
    assert 200 < sum(ctx.slept) <= asking.WAIT_SECONDS
    assert len(chat.prompts) < 100
    assert len(ctx.log.entries) <= asking.LINES_LOGGED + 1


@on_sqlite
async def test_few_places_at_the_host_are_enough(api: Api, database: Database) -> None:
    """More requests than the worker sends to one host wait for their turn, and every row is asked about once."""
    items(database, 40)
    chat = Chat(api)
    async with GuardedClient(AddressPolicy(["127.0.0.1/32"]), per_host=2) as client:
        ctx = RecordingContext(client, {"data_file_url": database.url})
        assert counts(await ask(ctx, api, concurrency=32)) == (40, 0, 0)
    assert sorted(chat.prompts) == sorted(f"text {n}" for n in range(1, 41))
    assert chat.peak <= 2


@on_sqlite
async def test_without_a_turn_the_slot_is_given_back(
    api: Api, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Turned-away requests are asked for again while others of the run get answers, else the run comes back later."""
    monkeypatch.setattr(endpoint, "TURN_SECONDS", 0.05)
    items(database, 4)
    chat = Chat(api)
    chat.held.clear()
    async with GuardedClient(AddressPolicy(["127.0.0.1/32"]), per_host=1) as client:
        ctx = RecordingContext(client, {"data_file_url": database.url})
        looks = 0

        def open_later(_: RecordingContext) -> None:
            nonlocal looks
            looks += 1
            if looks == 5:
                chat.held.set()

        ctx.before_look = open_later
        assert counts(await ask(ctx, api, concurrency=4)) == (4, 0, 0)
        assert sorted(chat.prompts) == [f"text {n}" for n in (1, 2, 3, 4)]
        chat.held.clear()
        body = {"messages": [{"content": "other"}]}
        other = asyncio.create_task(client.request("POST", api.url(PATH), json=body))
        while "other" not in chat.prompts:
            await asyncio.sleep(0)
        items(database, 1, start=5)
        with pytest.raises(Snooze, match="is busy with 1 requests"):
            await ask(ctx, api)
        chat.held.set()
        await other


@on_sqlite
async def test_the_key_is_nowhere(
    chat: Chat, api: Api, attempt: MakeContext, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even an endpoint that sends the key back gets it into table, log, result or error."""
    monkeypatch.setenv("JOBDECK_SECRET_LLM", KEY)
    items(database, 5)
    echo = f"your key is {KEY}"
    chat.plans = {
        "text 1": deque([completion(echo, finish=KEY)]),
        "text 2": deque([Reply({"error": "x" * 180 + echo}, 400)]),
        "text 3": deque([Reply({"error": echo}, 500), completion(None, refusal=echo)]),
        "text 4": deque([Reply({"error": {"message": echo}, "model": KEY})]),
    }
    ctx = attempt()
    result = await ask(ctx, api, api_key="secret://LLM")
    assert api.asked[0].headers["Authorization"] == f"Bearer {KEY}"
    assert counts(result) == (2, 3, 0)
    rows = database.rows("SELECT * FROM answers")
    everything = json.dumps([rows, ctx.log.entries, ctx.progresses, result])
    for part in (KEY, json.dumps(KEY)[1:-1], json.dumps(KEY)[1:-9], "sk-"):
        assert part not in everything
    items(database, 1, start=6)
    chat.plan.append(Reply({"error": echo}, 401))
    with pytest.raises(Discard, match=r"your key is \*+") as caught:
        await ask(attempt(run_id=OTHER_RUN), api, api_key="secret://LLM")
    assert "sk-" not in str(caught.value)


@on_sqlite
async def test_a_key_that_cannot_be_sent(
    chat: Chat, api: Api, attempt: MakeContext, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that is not set, or has a line break, ends the run before anything is asked, and is not shown."""
    items(database, 1)
    with pytest.raises(Discard, match="JOBDECK_SECRET_LLM is not set"):
        await ask(attempt(), api, api_key="secret://LLM")
    monkeypatch.setenv("JOBDECK_SECRET_LLM", "sk-one\nsk-two")
    with pytest.raises(Discard, match="the value of the header Authorization") as caught:
        await ask(attempt(), api, api_key="secret://LLM")
    assert "sk-" not in str(caught.value)
    with pytest.raises(Discard, match="not a public address"):
        await ask(attempt(), api, base_url="https://10.0.0.1/v1")
    assert api.asked == []
