"""`sitemap_check` and the sitemaps it reads: every form of them, and what a hostile one can do to a worker."""

from __future__ import annotations

import gzip
import time
import tracemalloc
from collections.abc import Callable

import pytest

from jobdeck import Cancelled, CancelReason, Discard, Retry
from jobdeck_handlers.sitemap_check import listing
from jobdeck_handlers.sitemap_check.head import read_head
from jobdeck_handlers.sitemap_check.sitemap import Unreadable, read_sitemap
from tests.handlers.api import Api, Reply
from tests.handlers.checking import (
    asked_for,
    check,
    index,
    redirect,
    serve,
    serve_pages,
    stored,
    urlset,
)
from tests.handlers.conftest import MakeContext
from tests.handlers.databases import Database

pytestmark = pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)

FORMS: dict[str, Callable[[list[str]], bytes]] = {
    "xml": urlset,
    "gzip": lambda urls: gzip.compress(urlset(urls)),
    "gzip of several members": lambda urls: (
        gzip.compress(urlset(urls)[:100]) + gzip.compress(urlset(urls)[100:])
    ),
    "padded gzip": lambda urls: gzip.compress(urlset(urls)) + b"\0" * 100,
    "text": lambda urls: "\n".join(urls).encode(),
    "text with a mark and blank lines": lambda urls: b"\xef\xbb\xbf" + "\r\n\r\n".join(urls).encode(),
    "gzip of text": lambda urls: gzip.compress("\n".join(urls).encode()),
    "xml with a mark": lambda urls: b"\xef\xbb\xbf" + urlset(urls),
    "xml in UTF-16": lambda urls: urlset(urls).decode().replace("UTF-8", "UTF-16").encode("utf-16"),
    "xml without namespace": lambda urls: urlset(urls).replace(b" xmlns=", b" not="),
    "xml with images": lambda urls: urlset(urls).replace(
        b"</loc>",
        b"</loc><i:image xmlns:i='urn:i'><i:loc>https://x/</i:loc></i:image><i:loc xmlns:i='urn:i'>https://y/</i:loc>",
    ),
}


@pytest.mark.parametrize("form", FORMS)
async def test_every_form_of_a_sitemap(form: str, api: Api, attempt: MakeContext, database: Database) -> None:
    """The pages of a sitemap are found in any of its forms, whatever its name is, each once and in order."""
    urls = serve_pages(api, 5)
    result = await check(attempt(), sitemap=serve(api, "/map", FORMS[form]([*urls, urls[0]])))
    assert stored(database, "url", "verdict") == [(url, "ok") for url in urls]
    assert (result["sitemaps"], result["more_pages"]) == (1, False)


async def test_an_index_of_sitemaps(api: Api, attempt: MakeContext, database: Database) -> None:
    """Nested sitemaps are read each once, packed or not; one that cannot be read is a row of the report."""
    urls = serve_pages(api, 4)
    inner = [
        serve(api, "/1.xml", urlset(urls[:2])),
        serve(api, "/2.xml.gz", gzip.compress(urlset(urls[2:]))),
        serve(api, "/gone.xml", Reply(b"", 404)),
        serve(api, "/page.xml", Reply(b"<!DOCTYPE html><html>")),
        "https://example.com/other.xml",
    ]
    inner += [serve(api, "/index2.xml", index([inner[0], api.url("/index.xml")])), inner[0]]
    ctx = attempt()
    result = await check(ctx, sitemap=serve(api, "/index.xml", index(inner)))
    assert result["verdicts"] == {"sitemap_unreadable": 3, "ok": 4}
    assert result["sitemaps"] == 4
    assert [(row["url"], row["status"]) for row in result["pages"]] == [
        (inner[2], 404),
        (inner[3], 200),
        (inner[4], None),
    ]
    assert [asked_for(api).count(path) for path in ("/1.xml", "/index.xml", "/index2.xml")] == [1, 1, 1]
    assert [each["url"] for each in ctx.log.with_message("sitemap not read")] == inner[2:5]


async def test_sitemaps_are_not_followed_for_ever(
    api: Api, attempt: MakeContext, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An index in an index in an index ends, and so does one with endless sitemaps."""
    (url,) = serve_pages(api, 1)
    serve(api, "/level4", urlset([url]))
    for level in (3, 2, 1):
        serve(api, f"/level{level}", index([api.url(f"/level{level + 1}")]))
    result = await check(attempt(), sitemap=api.url("/level1"))
    assert "/level4" not in asked_for(api)
    assert "more than 3 levels deep" in result["pages"][0]["detail"]
    monkeypatch.setattr(listing, "SITEMAPS", 5)
    for n in range(50):
        serve(api, f"/s{n}", urlset([url]))
    result = await check(
        attempt(fence=2), sitemap=serve(api, "/many", index(api.url(f"/s{n}") for n in range(50)))
    )
    assert (result["sitemaps"], result["more_pages"]) == (5, True)


async def test_no_more_pages_than_asked_for(api: Api, attempt: MakeContext, database: Database) -> None:
    """max_pages ends the listing, over all sitemaps, and the result says that there are more."""
    urls = serve_pages(api, 20)
    inner = [serve(api, f"/{n}.xml", urlset(urls[5 * n : 5 * n + 5])) for n in range(4)]
    result = await check(attempt(), sitemap=serve(api, "/index.xml", index(inner)), max_pages=7)
    assert (result["total"], result["more_pages"]) == (7, True)
    assert "/2.xml" not in asked_for(api)
    result = await check(attempt(fence=2), sitemap=api.url("/index.xml"), max_pages=20)
    assert (result["total"], result["more_pages"]) == (20, False)


async def test_urls_that_are_none(api: Api, attempt: MakeContext, database: Database) -> None:
    """What is no URL, or none that may be asked, is a problem of that page alone."""
    urls = [
        "/relative",
        "http://",
        "https://user:pass@127.0.0.1/",
        f"{api.origin}/" + "x" * 3_000,
        "http://[::1",
        f"{api.origin}:99999/",
        "javascript:alert(1)",
        *serve_pages(api, 1),
    ]
    ctx = attempt()
    result = await check(ctx, sitemap=serve(api, "/sitemap.xml", urlset(urls)))
    assert result["verdicts"] == {"refused": 7, "ok": 1}
    assert len(ctx.log.with_message("refused")) == 7
    assert asked_for(api) == ["/sitemap.xml", "/p1"]


ENTITY = b"<!ENTITY %s>"
LAUGHS = b"".join(ENTITY % f"l{n} '{f'&l{n - 1};' * 10}'".encode() for n in range(1, 10))
HOSTILE: dict[str, tuple[bytes, str]] = {
    "html": (b"<!DOCTYPE html><html><body>not found</body></html>", "DOCTYPE"),
    "billion laughs": (
        b"<!DOCTYPE x [<!ENTITY l0 'ha'>" + LAUGHS + b"]><urlset><url><loc>&l9;</loc></url></urlset>",
        "DOCTYPE",
    ),
    "external entity": (
        b"<!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/passwd'>]><urlset><url><loc>&e;</loc></url></urlset>",
        "DOCTYPE",
    ),
    "external DTD": (b"<!DOCTYPE urlset SYSTEM 'http://127.0.0.1:9/x.dtd'><urlset/>", "DOCTYPE"),
    "unknown entity": (b"<urlset><url><loc>&e;</loc></url></urlset>", "not valid XML: undefined entity"),
    "deep": (b"<urlset>" + b"<a>" * 100_000, "nested deeper than 16"),
    "cut": (b"<urlset><url><loc>https://127.0.0.1/</loc>", "not valid XML"),
    "a feed": (b"<rss><channel><link>https://x/</link></channel></rss>", "begins with <rss>"),
    "endless comment": (b"<urlset><!--" + b"x" * 3_000_000, "single tag, comment or text"),
    "endless tag": (b"<urlset a='" + b"x" * 3_000_000, "single tag, comment or text"),
    "endless name": (b"<urlset><" + b"x" * 3_000_000, "single tag, comment or text"),
    "words": (b"Not found", "neither XML nor a list"),
    "bytes": (bytes(range(256)) * 100, "neither XML nor a list"),
    "cut gzip": (gzip.compress(urlset(["https://127.0.0.1/"]))[:-12], "ends too early"),
    "damaged gzip": (b"\x1f\x8b\x08\x00" + b"\xff" * 100, "damaged gzip"),
    "gzip bomb": (gzip.compress(b"<urlset>" + b" " * (60 * 1024 * 1024)), "when unpacked"),
    "bomb of lines": (gzip.compress(b"\n" * (60 * 1024 * 1024)), "when unpacked"),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_what_is_no_sitemap_ends_the_run(
    name: str, api: Api, attempt: MakeContext, database: Database
) -> None:
    """The run fails at once with the reason, however the file tries to cost memory, time or secrets."""
    body, reason = HOSTILE[name]
    serve(api, "/sitemap.xml", body)
    with pytest.raises(Discard, match=reason):
        await check(attempt(), sitemap=api.url("/sitemap.xml"))
    assert asked_for(api) == ["/sitemap.xml"]


def test_a_bomb_costs_no_memory(database_kind: str) -> None:
    """Gigabytes packed into a megabyte are noticed while they are unpacked, piece by piece."""
    bomb = gzip.compress(b"<urlset>" + b" " * (300 * 1024 * 1024), compresslevel=1)
    tracemalloc.start()
    try:
        with pytest.raises(Unreadable, match="when unpacked"):
            read_sitemap(bomb, 50_000)
        assert tracemalloc.get_traced_memory()[1] < len(bomb) + 8 * 1024 * 1024
    finally:
        tracemalloc.stop()


def test_a_text_without_end_is_not_kept(database_kind: str) -> None:
    """Of a loc, and of a line, no more is held than the longest URL has."""
    for body in (urlset(["x" * 900_000]), b"https://" + b"x" * 900_000):
        (url,) = read_sitemap(body, 10).pages
        assert len(url) == 2_049


def test_an_entry_of_xml_may_be_escaped(database_kind: str) -> None:
    """The entities of XML itself are read, in pieces or not."""
    found = read_sitemap(
        b"<urlset><url><loc> https://x/?a=1&amp;b=&#x32;<![CDATA[&c]]> </loc></url></urlset>", 9
    )
    assert found.pages == ["https://x/?a=1&b=2&c"]


@pytest.mark.parametrize(
    "text",
    [
        "<",
        "<a ",
        "<!--",
        "<title>",
        "<title><",
        "<meta x='",
        "<meta x ",
        "<script></scrip",
        "<link rel=canonical href=/>",
        "&#",
        "</",
        "<?",
        "<![CDATA[",
        "<!",
    ],
)
def test_a_hostile_page_costs_little_time(text: str, database_kind: str) -> None:
    """No head takes long to read, whatever it repeats; a regular expression that runs wild would take minutes."""
    body = text.encode() * (256 * 1024 // len(text))
    start = time.process_time()
    read_head(body, "text/html")
    assert time.process_time() - start < 10


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (Reply(b"", 404), "answered 404"),
        (Reply(b"", 403), "answered 403"),
        (redirect("https://example.com/sitemap.xml"), "another host"),
        (redirect("/sitemap.xml"), "redirects back"),
    ],
)
async def test_a_sitemap_that_is_not_there(
    reply: Reply, outcome: str, api: Api, attempt: MakeContext, database: Database
) -> None:
    """What will not change by asking again ends the run."""
    with pytest.raises(Discard, match=outcome):
        await check(attempt(), sitemap=serve(api, "/sitemap.xml", reply))


async def test_a_sitemap_that_is_too_large(
    api: Api, attempt: MakeContext, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not received again and again: the run ends, saying how much is read."""
    monkeypatch.setattr(listing, "SITEMAP_BYTES", 1_000)
    with pytest.raises(Discard, match="more than 1,000 bytes"):
        await check(attempt(), sitemap=serve(api, "/sitemap.xml", urlset([api.url("/p")] * 100)))
    assert asked_for(api) == ["/sitemap.xml"]


async def test_a_sitemap_that_may_be_back_soon(api: Api, attempt: MakeContext, database: Database) -> None:
    """A server's error and a missing connection are for the run's retry rule; a redirect on the host is followed."""
    with pytest.raises(Retry, match="the sitemap answered 502"):
        await check(attempt(), sitemap=serve(api, "/broken.xml", Reply(b"", 502)))
    with pytest.raises(Retry, match="cannot be reached"):
        await check(attempt(fence=2), sitemap="http://127.0.0.1:9/sitemap.xml")
    serve(api, "/new.xml", urlset(serve_pages(api, 1)))
    result = await check(attempt(fence=3), sitemap=serve(api, "/old.xml", redirect("/new.xml")))
    assert result["verdicts"] == {"ok": 1}


async def test_a_cancel_ends_the_listing(api: Api, attempt: MakeContext, database: Database) -> None:
    """It is noticed between two sitemaps; nothing is stored of a list that is not whole."""
    inner = [serve(api, f"/{n}.xml", urlset(serve_pages(api, 1, n))) for n in range(1, 9)]

    def stop(ctx: object) -> None:
        if len(api.asked) == 4:
            running.reason = CancelReason.USER

    running = attempt(before_look=stop)
    with pytest.raises(Cancelled):
        await check(running, sitemap=serve(api, "/index.xml", index(inner)))
    assert len(api.asked) == 4
    assert stored(database, "url") == []


async def test_ten_thousand_pages_in_little_memory(
    api: Api, attempt: MakeContext, database: Database
) -> None:
    """A large sitemap costs its list of URLs and no more: pages are read from the table, some at a time."""
    serve(api, "/robots.txt", b"User-agent: *\nDisallow: /deep/")
    some = serve_pages(api, 20)
    urls = [api.url(f"/deep/{n:06}/{'x' * 60}") for n in range(9_980)]
    body = urlset([*urls, *some])
    ctx = attempt()
    tracemalloc.start()
    try:
        result = await check(ctx, sitemap=serve(api, "/sitemap.xml", body))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (result["total"], result["verdicts"]) == (10_000, {"disallowed": 9_980, "ok": 20})
    assert len(asked_for(api)) == 21
    # The list and its sitemap, a tenth of a kilobyte a page each, and what Python needs around them: 11 MiB were
    # measured. Ten thousand pages under way at the same time need more.
    assert peak < 16 * 1024 * 1024
    assert ctx.progresses[-1]["processed"] == ctx.progresses[-1]["total"] == 10_000
