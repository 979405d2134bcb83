"""`sitemap_check` and the hosts it asks: none it may not, none too often, and as each of them wishes."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import httpcore
import pytest

from jobdeck import GuardedClient, Retry, Snooze
from jobdeck.net import AddressPolicy
from jobdeck.testing.clock import FakeClock
from tests.handlers.api import Api, Asked, Reply
from tests.handlers.checking import (
    asked_for,
    check,
    check_one,
    index,
    page,
    redirect,
    serve,
    serve_pages,
    stored,
    urlset,
)
from tests.handlers.conftest import MakeContext
from tests.handlers.context import RecordingContext
from tests.handlers.databases import Database

pytestmark = pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)


class Dialer(httpcore.AnyIOBackend):
    """Keeps the addresses that connections are made to."""

    def __init__(self) -> None:
        self.dialled: set[str] = set()

    async def connect_tcp(self, host: str, *args: Any, **options: Any) -> httpcore.AsyncNetworkStream:
        self.dialled.add(host)
        return await super().connect_tcp(host, *args, **options)


async def names(host: str, _: int) -> Sequence[str]:
    """A name service that knows other names for this host, and one inside a private network."""
    return {"inside.example": ["10.0.0.7"], "mixed.example": ["127.0.0.1", "192.168.0.1"]}.get(
        host, ["127.0.0.1"]
    )


@pytest.mark.parametrize("same_host", [True, False])
async def test_no_private_address_is_asked(
    same_host: bool, api: Api, database: Database, clock: FakeClock
) -> None:
    """Whatever a sitemap, a redirect or a robots.txt says, nothing is dialled but what the server opens."""
    port = api.port
    private = [
        "https://10.0.0.1/",
        "http://169.254.169.254/latest/meta-data/",
        "https://[::ffff:10.0.0.1]/",
        f"http://inside.example:{port}/",
        f"http://mixed.example:{port}/",
        "https://0x0a000001/",
        "https://[fe80::1]/",
    ]
    urls = [*private, *serve_pages(api, 1)]
    urls += [serve(api, f"/to{n}", redirect(each, 307)) for n, each in enumerate(private)]
    nested = [serve(api, "/pages.xml", urlset(urls)), *(f"{each}sitemap.xml" for each in private)]
    sitemap = serve(api, "/sitemap.xml", index(nested))
    dialer = Dialer()
    async with GuardedClient(
        AddressPolicy(["127.0.0.1/32"]), clock=clock, resolver=names, dialer=dialer
    ) as client:
        ctx = RecordingContext(client, {"data_file_url": database.url}, clock=clock)
        result = await check(ctx, sitemap=sitemap, same_host=same_host)
    assert dialer.dialled == {"127.0.0.1"}
    assert {each.headers["Host"] for each in api.asked} == {f"127.0.0.1:{port}"}
    expected = {"other_host": 7, "redirect_elsewhere": 7} if same_host else {"refused": 14}
    assert result["verdicts"] == {"sitemap_unreadable": 7, "ok": 1} | expected


async def test_other_hosts_are_left_alone(api: Api, database: Database, clock: FakeClock) -> None:
    """With same_host nothing is asked of another host, its robots.txt included; without, it is."""
    other = f"http://other.example:{api.port}"
    serve_pages(api, 2)
    serve(api, "/away", redirect(f"{other}/p1"))
    sitemap = serve(api, "/sitemap.xml", urlset([api.url("/p1"), f"{other}/p2", api.url("/away")]))
    async with GuardedClient(AddressPolicy(["127.0.0.1/32"]), clock=clock, resolver=names) as client:
        settings = {"data_file_url": database.url}
        ctx = RecordingContext(client, settings, clock=clock)
        result = await check(ctx, sitemap=sitemap)
        assert result["verdicts"] == {"redirect_elsewhere": 1, "other_host": 1, "ok": 1}
        assert (result["checked"], result["skipped"]) == (2, 1)
        assert {each.headers["Host"] for each in api.asked} == {f"127.0.0.1:{api.port}"}
        ctx = RecordingContext(client, settings, fence=2, clock=clock)
        result = await check(ctx, sitemap=sitemap, same_host=False)
    assert result["verdicts"] == {"redirect": 1, "canonical_other": 1, "ok": 1}
    assert sum(each.path == "/robots.txt" for each in api.asked) == 3


async def test_a_host_is_one_in_any_spelling(api: Api, database: Database, clock: FakeClock) -> None:
    """Upper case, a dot at the end and the letters of a country make no other host; a name that is none does."""
    plain, spelt = f"http://xn--bcher-kva.example:{api.port}", f"http://B\u00fccher.example.:{api.port}"
    serve_pages(api, 1)
    urls = [f"{plain}/p1", f"{plain}/away"]
    serve(api, "/away", redirect(f"{spelt}/p1"))
    sitemap = serve(api, "/s.xml", urlset([*urls, f"http://{'x' * 70}.example:{api.port}/"]))
    async with GuardedClient(AddressPolicy(["127.0.0.1/32"]), clock=clock, resolver=names) as client:
        ctx = RecordingContext(client, {"data_file_url": database.url}, clock=clock)
        result = await check(ctx, sitemap=sitemap.replace(api.origin, plain))
    assert result["verdicts"] == {"refused": 1, "redirect": 1, "canonical_other": 1}


ROBOTS = b"""
User-agent: *
Disallow: /

User-agent: deckbot
Disallow: /private/
Allow: /private/not
Disallow: /*.php$
"""


async def test_robots_txt_is_respected(api: Api, attempt: MakeContext, database: Database) -> None:
    """What robots.txt disallows for the user agent is reported and not asked for, redirects included."""
    serve(api, "/robots.txt", ROBOTS)
    fine = serve_pages(api, 1)
    urls = [
        *fine,
        api.url("/private/x"),
        serve(api, "/private/not", page(api.url("/private/not"), "Not private")),
        api.url("/a.php"),
        serve(api, "/a.php5", page(api.url("/a.php5"), "PHP 5")),
        serve(api, "/hidden", redirect("/private/y")),
    ]
    result = await check(attempt(), urls=urls, user_agent="Mozilla/5.0 (compatible; DeckBot/1.0)")
    assert [verdict for (verdict,) in stored(database, "verdict")] == [
        "ok",
        "disallowed",
        "ok",
        "disallowed",
        "ok",
        "redirect",
    ]
    assert result["skipped"] == 2
    assert "robots.txt disallows it" in result["pages"][0]["detail"]
    assert sorted(asked_for(api)) == ["/a.php5", "/hidden", "/p1", "/private/not"]
    assert {each.headers["User-Agent"] for each in api.asked} == {"Mozilla/5.0 (compatible; DeckBot/1.0)"}
    result = await check(attempt(fence=2), urls=urls)
    assert result["verdicts"] == {"disallowed": 6}


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        (Reply(b"", 404), "ok"),
        (Reply(b"", 403), "ok"),
        (Reply(b"<!DOCTYPE html><p>Disallow: /"), "ok"),
        (Reply(b"\xff\xfe\x00" * 1_000), "ok"),
        (Reply(b"\xef\xbb\xbfUser-agent: *\r\nDisallow: /p"), "disallowed"),
        (Reply(b"User-agent: *\nDisallow: /p\n" + b"#" * 1_000_000), "disallowed"),
        (Reply(b"", 503), "unreachable"),
        (redirect("/rules"), "disallowed"),
        (redirect("/robots.txt"), "ok"),
        (redirect("https://example.com/robots.txt"), "ok"),
    ],
)
async def test_every_answer_of_robots_txt(
    reply: Reply, verdict: str, api: Api, attempt: MakeContext, database: Database
) -> None:
    """None means all is allowed; a host that cannot say so is not asked for pages (RFC 9309)."""
    serve(api, "/rules", b"User-agent: *\nDisallow: /p")
    serve(api, "/robots.txt", reply)
    found = await check_one(attempt(), serve_pages(api, 1)[0])
    assert found["verdict"] == verdict


async def test_crawl_delay_is_kept(api: Api, attempt: MakeContext, database: Database) -> None:
    """Pages come one after the other with the pause the host asks for, whatever the concurrency."""
    serve(api, "/robots.txt", b"User-agent: *\nCrawl-delay: 4")
    ctx = attempt()
    await check(ctx, urls=serve_pages(api, 4), concurrency=4)
    assert sorted(round(each) for each in ctx.slept) == [4, 8, 12]


async def test_crawl_delay_has_a_bound(api: Api, attempt: MakeContext, database: Database) -> None:
    """A host cannot make a check wait for a day; the log says that its wish was not granted."""
    serve(api, "/robots.txt", b"User-agent: *\nCrawl-delay: 86400")
    ctx = attempt()
    await check(ctx, urls=serve_pages(api, 2))
    assert [round(each) for each in ctx.slept] == [10]
    assert ctx.log.with_message("Crawl-delay is longer than is waited") == [
        {"origin": api.origin, "asked": 86_400.0, "waited": 10.0}
    ]


async def test_no_more_pages_at_a_time_than_asked_for(
    api: Api, attempt: MakeContext, database: Database
) -> None:
    """`concurrency` pages are under way at the same time: so many meet at the server, and never one more."""
    lock, most, now = threading.Lock(), 0, 0
    together = threading.Barrier(3)

    def meets(asked: Asked) -> Reply:
        nonlocal most, now
        with lock:
            now += 1
            most = max(most, now)
        together.wait(30)
        with lock:
            now -= 1
        return page(api.url(asked.path), asked.path)

    urls = [api.url(f"/m{n}") for n in range(12)]
    api.routes.update({f"/m{n}": meets for n in range(12)})
    assert (await check(attempt(), urls=urls, concurrency=3))["verdicts"] == {"ok": 12}
    assert most == 3


@pytest.mark.parametrize("status", [429, 503])
async def test_waits_as_long_as_the_host_asks(
    status: int, api: Api, attempt: MakeContext, database: Database
) -> None:
    """Retry-After is honoured, then the page is asked for again, and the check goes on."""
    urls = serve_pages(api, 3)
    api.plan.extend([Reply(b"", 404), Reply(b"", status, {"Retry-After": "120"})])
    ctx = attempt()
    assert (await check(ctx, urls=urls, concurrency=1))["verdicts"] == {"ok": 3}
    assert ctx.slept == [120.0]
    assert asked_for(api) == ["/p1", "/p1", "/p2", "/p3"]


async def test_a_page_that_is_never_served(api: Api, attempt: MakeContext, database: Database) -> None:
    """A host that turns one page away again and again gets three tries, and the page its verdict."""
    urls = [serve(api, "/busy", Reply(b"", 429, {"Retry-After": "10"})), *serve_pages(api, 1)]
    ctx = attempt()
    result = await check(ctx, urls=urls, concurrency=1)
    assert result["verdicts"] == {"http_error": 1, "ok": 1}
    assert result["pages"][0] == {
        "url": urls[0],
        "status": 429,
        "verdict": "http_error",
        "detail": "answered 429",
    }
    assert asked_for(api).count("/busy") == 3


async def test_a_long_wait_gives_the_slot_back(
    api: Api, attempt: MakeContext, database: Database, clock: FakeClock
) -> None:
    """What would take longer than five minutes comes as a later attempt, which asks only for what is missing.

    One that comes too early asks nothing and burns no attempt.
    """
    urls = serve_pages(api, 6)
    good = api.routes["/p4"]
    api.routes["/p4"] = lambda _: Reply(b"", 429, {"Retry-After": "3600"})
    with pytest.raises(Retry, match="answered 429 and asks to be left alone for 3600 s") as caught:
        await check(attempt(), urls=urls, concurrency=1)
    assert caught.value.after is not None
    assert timedelta(hours=1) <= caught.value.after <= timedelta(hours=1, minutes=1)
    asked = len(api.asked)
    with pytest.raises(Snooze, match="asks to be left alone"):
        await check(attempt(fence=2), urls=urls, concurrency=1)
    assert len(api.asked) == asked
    clock.advance(3_600)
    api.routes["/p4"] = good
    assert (await check(attempt(fence=3), urls=urls, concurrency=1))["verdicts"] == {"ok": 6}
    assert asked_for(api) == ["/p1", "/p2", "/p3", "/p4", "/p4", "/p5", "/p6"]
