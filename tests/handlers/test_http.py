"""`http`: one request, whose answer is the result, or the reason why there is none."""

from __future__ import annotations

import json
import threading
from datetime import timedelta
from typing import Any

import pytest

from jobdeck import Discard, GuardedClient, Park, Retry, Snooze, ValidationError
from jobdeck.net import AddressPolicy
from jobdeck.secret import filled
from jobdeck_handlers.http import BODY_BYTES, http
from tests.handlers.api import Api, Asked, Reply
from tests.handlers.context import RecordingContext


@pytest.fixture
def ctx(client: GuardedClient) -> RecordingContext:
    return RecordingContext(client, {})


async def send(ctx: RecordingContext, url: str, **params: Any) -> dict[str, Any]:
    result: dict[str, Any] = await http(ctx, http.parse({"url": url} | params))
    return result


async def test_the_answer_is_the_result(
    ctx: RecordingContext, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A 2xx answer is stored with its code, body and timing; payload and headers arrive as given."""
    monkeypatch.setenv("JOBDECK_SECRET_HOOK", "s3cret")
    api.plan.append(Reply({"ok": True}, 201))
    headers = {"X-Key": "secret://HOOK", "X-Plain": "a"}
    result = await send(ctx, api.url("/hook?a=1"), headers=headers, payload={"n": [1, None, "ü"]})
    assert result["response_code"] == 201
    assert json.loads(result["response_body"]) == {"ok": True}
    assert result["url"] == api.url("/hook?a=1")
    assert (result["fallback"], result["truncated"]) == (False, False)
    assert 0 < result["ttfb_ms"] <= result["total_ms"]
    assert {"connect_ms", "transfer_ms"} <= result.keys()
    assert ctx.traced == {name: result[f"{name}_ms"] / 1000 for name in ("connect", "ttfb", "transfer")}
    asked = api.asked[0]
    assert (asked.method, asked.headers["X-Key"], asked.headers["X-Plain"]) == ("POST", "s3cret", "a")
    assert json.loads(asked.body) == {"n": [1, None, "ü"]}
    assert asked.headers["Content-Type"] == "application/json"
    assert "s3cret" not in str(ctx.log.entries) + str(result)


async def test_a_secret_behind_a_scheme(
    ctx: RecordingContext, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`Bearer secret://NAME` is stored like that and sent with the value."""
    monkeypatch.setenv("JOBDECK_SECRET_HOOK", "s3cret")
    params = http.parse({"url": api.url("/x"), "headers": {"Authorization": "Bearer secret://HOOK"}})
    assert params.model_dump(mode="json")["headers"] == {"Authorization": "Bearer secret://HOOK"}
    api.plan.append(Reply(b"", 204))
    await http(ctx, params)
    assert api.asked[0].headers["Authorization"] == "Bearer s3cret"
    with pytest.raises(Discard, match="JOBDECK_SECRET_NONE is not set"):
        await send(ctx, api.url("/x"), headers={"Authorization": "Bearer secret://NONE"})


async def test_params_as_a_worker_fills_them(
    ctx: RecordingContext, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """URL, payload and headers may all come from secrets; what is then no URL is refused."""
    monkeypatch.setenv("JOBDECK_SECRET_URL", api.url("/hook?sig=abc"))
    monkeypatch.setenv("JOBDECK_SECRET_KEY", "s3cret")
    raw = {"url": "secret://URL", "headers": {"X-Key": "secret://KEY"}, "payload": {"key": "secret://KEY"}}
    assert http.parse(raw).model_dump(mode="json", exclude_unset=True) == raw
    api.plan.append(Reply(b"", 204))
    await http(ctx, http.parse(filled(raw)))
    (asked,) = api.asked
    assert (asked.path, asked.query, asked.headers["X-Key"]) == ("/hook", {"sig": "abc"}, "s3cret")
    assert json.loads(asked.body) == {"key": "s3cret"}
    with pytest.raises(ValidationError, match="url"):
        http.parse(filled(raw | {"url": "secret://KEY"}))


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
async def test_methods(method: str, ctx: RecordingContext, api: Api) -> None:
    """Each method is sent as asked, without a body where there is no payload."""
    api.plan.append(Reply(b"", 204))
    result = await send(ctx, api.url("/x"), method=method)
    assert (result["response_code"], result["response_body"]) == (204, "")
    assert (api.asked[0].method, api.asked[0].body) == (method, b"")


async def test_a_large_body_is_cut(ctx: RecordingContext, api: Api) -> None:
    """Only the first 64 KiB are read; what cannot be stored as text is replaced, and still fits into a result."""
    api.plan.append(Reply(b'\x00\x1b\xff"' * BODY_BYTES))
    result = await send(ctx, api.url("/x"))
    assert result["truncated"]
    assert len(result["response_body"]) == BODY_BYTES
    assert set(result["response_body"]) == {"\ufffd", '"'}
    assert len(json.dumps(result, ensure_ascii=False).encode()) < 256 * 1024


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(301, Discard), (400, Discard), (404, Discard), (408, Retry), (425, Retry), (429, Retry), (500, Retry)],
)
async def test_other_answers(status: int, outcome: type[Exception], ctx: RecordingContext, api: Api) -> None:
    """What may pass is tried again by the run's rule; the rest ends the run. The log has the answer."""
    api.plan.append(Reply({"detail": "no"}, status, {"Location": api.url("/other"), "Retry-After": "9"}))
    with pytest.raises(outcome, match=f'127.0.0.1 answered {status}: {{"detail": "no"}}') as caught:
        await send(ctx, api.url("/x"))
    if isinstance(caught.value, Retry):
        assert caught.value.after is not None
        assert timedelta(seconds=9) <= caught.value.after <= timedelta(seconds=18)
    [logged] = ctx.log.with_message("refused")
    assert (logged["response_code"], logged["response_body"]) == (status, '{"detail": "no"}')
    assert len(api.asked) == 1


async def test_failed_connections_may_pass_and_closed_targets_do_not(ctx: RecordingContext) -> None:
    """A server that is down may come back; an address that is not open stays closed."""
    with pytest.raises(Retry, match="cannot be reached"):
        await send(ctx, "http://127.0.0.1:9/")
    with pytest.raises(Discard, match=r"10\.0\.0\.1"):
        await send(ctx, "https://10.0.0.1/")


async def test_the_timeout_ends_the_exchange(ctx: RecordingContext, api: Api) -> None:
    """An answer that does not come in time is a failure that may pass."""
    release = threading.Event()

    def never(_: Asked) -> Reply:
        release.wait(30)
        return Reply()

    api.routes["/never"] = never
    with pytest.raises(Retry, match=r"did not finish within 0\.2 s"):
        await send(ctx, api.url("/never"), timeout="200ms")
    release.set()


async def test_the_fallback_is_tried_once(ctx: RecordingContext, api: Api) -> None:
    """Where the first URL fails, the same request goes to the other one, whose answer is the result."""
    api.plan.extend([Reply("down", 404), Reply("up")])
    result = await send(ctx, api.url("/a"), fallback_url=api.url("/b"), payload=1)
    assert (result["fallback"], result["url"], result["response_body"]) == (True, api.url("/b"), '"up"')
    assert [(each.path, each.body) for each in api.asked] == [("/a", b"1"), ("/b", b"1")]


@pytest.mark.parametrize(
    ("first", "second", "outcome"),
    [(404, 410, Discard), (500, 404, Retry), (404, 500, Retry), (503, 503, Retry)],
)
async def test_when_both_fail(
    first: int, second: int, outcome: type[Exception], ctx: RecordingContext, api: Api
) -> None:
    """The run is tried again if either of them may pass; the reason names both."""
    api.plan.extend([Reply(status=first), Reply(status=second)])
    with pytest.raises(outcome, match=f"answered {first}.*then the fallback: .*answered {second}"):
        await send(ctx, api.url("/a"), fallback_url=api.url("/b"))
    assert len(api.asked) == 2


async def test_a_run_that_gets_no_turn_comes_back_without_burning_an_attempt(
    ctx: RecordingContext, api: Api, client: GuardedClient
) -> None:
    """A host that has asked for a pause is not asked; the run waits that long and up to a minute more."""
    api.plan.append(Reply(status=503, headers={"Retry-After": "100"}))
    with pytest.raises(Retry):
        await send(ctx, api.url("/a"))
    with pytest.raises(Snooze, match="left alone for another 100 s") as caught:
        await send(ctx, api.url("/a"))
    assert timedelta(seconds=100) <= caught.value.delay <= timedelta(seconds=160)
    with pytest.raises(Snooze):
        await send(ctx, api.url("/a"), fallback_url=api.url("/b"))
    assert len(api.asked) == 1


async def test_a_host_without_a_turn_is_what_the_fallback_is_for(api: Api) -> None:
    """Where the first host cannot be asked, the other one is."""
    elsewhere = api.url("/b").replace("127.0.0.1", "localhost")
    async with GuardedClient(AddressPolicy(["localhost", "127.0.0.1"])) as client:
        ctx = RecordingContext(client, {})
        api.plan.extend([Reply(status=429, headers={"Retry-After": "100"}), Reply("up")])
        with pytest.raises(Retry):
            await send(ctx, api.url("/a"))
        assert (await send(ctx, api.url("/a"), fallback_url=elsewhere))["fallback"]
    assert [asked.path for asked in api.asked] == ["/a", "/b"]


@pytest.mark.parametrize(
    ("params", "problem"),
    [
        ({"payload": "x" * 262_143}, "262,145 bytes of JSON; at most 262,144"),
        ({"timeout": "31s"}, "timeout"),
        ({"timeout": 0}, "timeout"),
        ({"method": "TRACE"}, "method"),
        ({"url": "ftp://host/"}, "url"),
        ({"headers": {"A": "secret://"}}, "headers.A"),
        ({"headers": {"Host": "x"}}, "headers: the header Host is set by jobdeck itself"),
        ({"headers": {"A": "1\r\nB: 2"}}, "headers: the value of the header A has a line break"),
        ({"headers": {"A": "Bearer secret://a-b"}}, "headers.A"),
        ({"url": "secret://a-b"}, "url"),
    ],
)
def test_wrong_params_are_refused(params: dict[str, Any], problem: str) -> None:
    """Params that cannot work are refused in one line that names the field."""
    with pytest.raises(ValidationError, match=problem):
        http.parse({"url": "https://api.example.com/"} | params)


def test_the_largest_payload_is_accepted() -> None:
    """The limit itself is still allowed."""
    http.parse({"url": "https://api.example.com/", "payload": "x" * 262_142})


async def test_202_parks_the_run(ctx: RecordingContext, api: Api) -> None:
    """The request hands over run and token; after 202 the run is left to the other side, for an hour or as stated."""
    for stated, wanted in ({}, timedelta(hours=1)), ({"park_for": "2d"}, timedelta(days=2)):
        api.plan.append(Reply({"queued": True}, 202))
        with pytest.raises(Park, match="answered 202") as caught:
            await send(ctx, api.url("/slow"), **stated)
        assert (caught.value.delay, caught.value.until) == (wanted, None)
        headers = api.asked[-1].headers
        assert (headers["Jobdeck-Run"], headers["Jobdeck-Token"]) == (str(ctx.run_id), ctx.token)
    assert ctx.token not in str(ctx.log.entries)


async def test_202_is_an_answer_where_it_may_not_park(ctx: RecordingContext, api: Api) -> None:
    """With `park_for` of nothing 202 completes the run, and no token is sent; nor does any other 2xx park."""
    api.plan += [Reply(b"", 202), Reply(b"", 201)]
    assert (await send(ctx, api.url("/slow"), park_for="0s"))["response_code"] == 202
    assert "Jobdeck-Token" not in api.asked[-1].headers
    assert (await send(ctx, api.url("/quick")))["response_code"] == 201


async def test_how_long_it_may_be_parked() -> None:
    """Seven days at most."""
    assert http.parse({"url": "https://a.example/", "park_for": "7d"})
    with pytest.raises(ValidationError, match="park_for"):
        http.parse({"url": "https://a.example/", "park_for": "8d"})
