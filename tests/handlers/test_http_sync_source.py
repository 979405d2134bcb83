"""`http_sync` and a source that is slow, broken or hostile. The target does not matter here: SQLite does for all."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from jobdeck import Cancelled, CancelReason, Discard, Retry, Snooze
from jobdeck.testing.clock import FakeClock
from jobdeck_handlers.http_sync import source
from jobdeck_handlers.http_sync.paging import next_link
from tests.handlers.api import Api, Reply
from tests.handlers.conftest import MakeContext
from tests.handlers.context import RecordingContext
from tests.handlers.databases import Database
from tests.handlers.syncing import BY_PAGE, counts, sync, users

pytestmark = pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
NOW = datetime(2026, 1, 31, 10, 30, tzinfo=UTC)


def http_date(seconds: float) -> str:
    return format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"Retry-After": "7"}, 7),
        ({"Retry-After": "0"}, 0.5),
        ({"Retry-After": http_date(90), "Date": http_date(0)}, 90),
        ({"Retry-After": http_date(-90), "Date": http_date(0)}, 0.5),
        ({"Retry-After": "soon"}, 0.5),
        ({}, 0.5),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
async def test_waits_as_long_as_the_source_asks(
    status: int, headers: dict[str, str], wait: float, api: Api, attempt: MakeContext, database: Database
) -> None:
    """Retry-After is honoured as seconds and as a date, by the server's own clock; then the sync goes on."""
    api.records = users(3)
    api.plan.append(Reply({"detail": "slow down"}, status, headers))
    ctx = attempt()
    assert counts(await sync(ctx, api.url("/everything"))) == (3, 0, 0)
    assert len(ctx.slept) == 1
    assert wait <= ctx.slept[0] <= wait * 1.1
    assert len(api.asked) == 2


async def test_a_long_wait_gives_the_slot_back(
    api: Api, attempt: MakeContext, database: Database, clock: FakeClock
) -> None:
    """What would take longer than five minutes comes as a later attempt, which goes on from the checkpoint.

    One that comes too early asks nothing and burns no attempt.
    """
    api.records = users(25)
    stop = Reply(status=429, headers={"Retry-After": "3600"})
    api.routes["/limited"] = lambda asked: (
        stop if asked.query["page"] == "3" else api.builtin("/pages")(asked)
    )
    with pytest.raises(Retry, match="answered 429") as caught:
        await sync(attempt(), api.url("/limited"), **BY_PAGE)
    assert caught.value.after is not None
    assert timedelta(hours=1) <= caught.value.after <= timedelta(hours=1, minutes=1)
    api.routes["/limited"] = api.builtin("/pages")
    asked = len(api.asked)
    with pytest.raises(Snooze, match="asks to be left alone for another 3600 s"):
        await sync(attempt(fence=2), api.url("/limited"), **BY_PAGE)
    assert len(api.asked) == asked
    clock.advance(3_600)
    assert counts(await sync(attempt(fence=3), api.url("/limited"), **BY_PAGE)) == (25, 0, 0)
    assert api.asked[asked].query["page"] == "3"


async def test_waits_of_one_page_add_up_to_five_minutes(
    api: Api, attempt: MakeContext, database: Database
) -> None:
    """A source that is always busy is not asked for ever."""
    api.routes["/busy"] = lambda _: Reply(status=503)
    ctx = attempt()
    with pytest.raises(Retry, match="answered 503"):
        await sync(ctx, api.url("/busy"))
    assert 200 < sum(ctx.slept) <= source.WAIT_SECONDS * 1.1
    assert len(api.asked) < 25


async def test_a_broken_source_gets_a_few_tries(api: Api, attempt: MakeContext, database: Database) -> None:
    """Errors of the server are tried again in place with growing pauses, then by the run's retry rule."""
    api.records = users(3)
    api.plan.extend([Reply("oops", 500), Reply("oops", 502)])
    ctx = attempt()
    assert counts(await sync(ctx, api.url("/everything"))) == (3, 0, 0)
    assert [round(each, 1) for each in ctx.slept] == [pytest.approx(0.5, abs=0.1), pytest.approx(1, abs=0.2)]
    api.routes["/broken"] = lambda _: Reply({"detail": "database down"}, 500)
    with pytest.raises(Retry, match=r"answered 500: .*database down") as caught:
        await sync(attempt(fence=2), api.url("/broken"))
    assert caught.value.after is None
    assert sum(each.path == "/broken" for each in api.asked) == source.TRIES


async def test_no_connection_is_tried_again(attempt: MakeContext, database: Database) -> None:
    """A source that cannot be reached may be back soon."""
    with pytest.raises(Retry, match="cannot be reached"):
        await sync(attempt(), "http://127.0.0.1:9/")


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 410])
async def test_a_refusal_ends_the_run(
    status: int, api: Api, attempt: MakeContext, database: Database
) -> None:
    """What will not change by asking again is not asked again, and a redirect is not followed."""
    elsewhere = api.url("/everything")
    api.plan.append(Reply({"detail": "no"}, status, {"Location": elsewhere}))
    with pytest.raises(Discard, match=f"127.0.0.1 answered {status}"):
        await sync(attempt(), api.url("/somewhere"))
    assert len(api.asked) == 1


async def test_a_target_that_is_not_open_ends_the_run(attempt: MakeContext, database: Database) -> None:
    """The guarded client's refusal is final."""
    with pytest.raises(Discard, match=r"169\.254\.169\.254"):
        await sync(attempt(), "https://169.254.169.254/latest/")


ELSEWHERE = [
    "https://evil.example.com/next",
    "//evil.example.com/next",
    "http://127.0.0.1:1/next",
    "https://127.0.0.1/next",
    "http://user@127.0.0.1/next",
    "file:///etc/passwd",
    "http://[",
    "/" + "x" * 9000,
]


@pytest.mark.parametrize(
    ("kind", "following"),
    [
        *(("link_header", each) for each in ELSEWHERE),
        *(("next_url", each) for each in (*ELSEWHERE, 7, {"url": "x"})),
    ],
)
async def test_a_next_page_elsewhere_is_not_followed(
    kind: str, following: Any, api: Api, attempt: MakeContext, database: Database
) -> None:
    """Credentials never go to another origin than the one the run names, whatever the source says."""
    link = {"Link": f'<{following}>; rel="next"'} if kind == "link_header" else {}
    api.plan.append(Reply({"items": users(3), "next": following}, headers=link))
    with pytest.raises(Discard, match=r"another origin|is no URL"):
        await sync(attempt(), api.url("/start"), records="items", pagination={"kind": kind})
    assert len(api.asked) == 1
    assert "users" not in database.tables()


async def test_a_relative_next_url_is_one_of_the_source(
    api: Api, attempt: MakeContext, database: Database
) -> None:
    """Next URLs may be relative to the page that names them, and bring their own query."""
    api.records = users(25)
    for at, following in ((0, "?at=10"), (10, "nexts?at=20"), (20, None)):
        api.plan.append(Reply({"items": api.records[at : at + 10], "next": following}))
    params = {"records": "items", "pagination": {"kind": "next_url"}, "query": {"shop": "1"}}
    assert counts(await sync(attempt(), api.url("/nexts"), **params)) == (25, 0, 0)
    assert [each.query for each in api.asked] == [{"shop": "1"}, {"at": "10"}, {"at": "20"}]


async def test_circles_are_noticed(api: Api, attempt: MakeContext, database: Database) -> None:
    """A cursor or next URL that was there before, and a page number that changes nothing, end the run."""
    api.routes["/cursor"] = lambda _: Reply({"items": users(1), "next": "again"})
    with pytest.raises(Discard, match="in circles"):
        await sync(
            attempt(), api.url("/cursor"), records="items", pagination={"kind": "cursor", "path": "next"}
        )
    api.routes["/url"] = lambda _: Reply({"items": users(1), "next": "/url"})
    with pytest.raises(Discard, match="in circles"):
        await sync(attempt(fence=2), api.url("/url"), records="items", pagination={"kind": "next_url"})
    api.records = users(5)
    with pytest.raises(Discard, match="the same page twice"):
        await sync(attempt(fence=3), api.url("/everything"), **BY_PAGE)
    assert len(api.asked) <= 6


async def test_an_empty_page_in_the_middle_is_no_end(
    api: Api, attempt: MakeContext, database: Database
) -> None:
    """Sources that filter give empty pages with a cursor to more."""
    api.plan.extend([Reply({"items": [], "next": 2}), Reply({"items": users(1), "next": ""})])
    result = await sync(
        attempt(), api.url("/x"), records="items", pagination={"kind": "cursor", "path": "next"}
    )
    assert (counts(result), result["pages"]) == ((1, 0, 0), 2)


async def test_a_page_of_megabytes(
    api: Api, attempt: MakeContext, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages may be far larger than what other handlers read; beyond the limit the run ends and says so."""
    api.records = [{"id": n, "text": "x" * 10_000} for n in range(300)]
    assert counts(await sync(attempt(), api.url("/everything"))) == (300, 0, 0)
    monkeypatch.setattr(source, "PAGE_BYTES", 100_000)
    with pytest.raises(Discard, match="more than 100,000 bytes"):
        await sync(attempt(fence=2), api.url("/everything"), query={"a": 1})


async def test_an_answer_that_is_not_json_is_tried_again_later(
    api: Api, attempt: MakeContext, database: Database
) -> None:
    """A gateway's page in HTML is not taken for the data."""
    for body in (b"<html>be right back</html>", b'{"a": NaN}', b"[" * 100_000, b"\xff"):
        api.plan.append(Reply(body))
        with pytest.raises(Retry, match="JSON"):
            await sync(attempt(), api.url("/everything"))


async def test_a_cancel_ends_a_wait(api: Api, attempt: MakeContext, database: Database) -> None:
    """The wait for a busy source is one that a cancel ends."""

    def look(ctx: RecordingContext) -> None:
        if ctx.slept:
            ctx.reason = CancelReason.USER

    api.plan.append(Reply(status=429, headers={"Retry-After": "200"}))
    with pytest.raises(Cancelled):
        await sync(attempt(before_look=look), api.url("/everything"))
    assert len(api.asked) == 1


@pytest.mark.parametrize(
    ("header", "url"),
    [
        ('<https://a/?x=1,2&y=;>; rel="next"', "https://a/?x=1,2&y=;"),
        ('<b>; rel=prev, <c>; title="x; rel=next, <d>"; rel="last next"', "c"),
        ("<e>;rel=NEXT", "e"),
        ("<f>; rel=nextish", None),
        ("garbage <<>>; rel=next", None),
        ("<g>", None),
        ("", None),
        ("<" * 10_000, None),
        ("<h>" + "; a=b" * 10_000, None),
    ],
)
def test_link_headers(header: str, url: str | None, database_kind: str) -> None:
    """The target of rel=next is found among others and in odd notations, and only that; and quickly."""
    assert next_link(header) == url
