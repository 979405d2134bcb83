"""`sitemap_check`: what it says about a page, whatever is wrong with that."""

from __future__ import annotations

import gzip
import json
import threading
from typing import Any

import pytest

from jobdeck import ValidationError
from jobdeck_handlers.sitemap_check import sitemap_check
from jobdeck_handlers.sitemap_check.page import redirects_in_words
from jobdeck_handlers.sitemap_check.redirects import Journey
from tests.handlers.api import Api, Asked, Reply
from tests.handlers.checking import (
    asked_for,
    check,
    check_one,
    page,
    redirect,
    serve,
    serve_pages,
    stored,
    urlset,
)
from tests.handlers.conftest import MakeContext
from tests.handlers.databases import Database

# The data file of a project is a SQLite file, whatever database jobdeck itself is on.
pytestmark = pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)


async def test_a_site_without_problems(api: Api, attempt: MakeContext, database: Database) -> None:
    """Every page is asked for once, counted as ok and stored with what was seen of it."""
    urls = serve_pages(api, 12)
    ctx = attempt()
    result = await check(ctx, sitemap=serve(api, "/sitemap.xml", urlset(urls)))
    assert (result["total"], result["checked"], result["problems"], result["skipped"]) == (12, 12, 0, 0)
    assert (result["verdicts"], result["statuses"], result["pages"]) == ({"ok": 12}, {"200": 12}, [])
    assert sorted(asked_for(api)) == sorted(["/sitemap.xml", *(f"/p{n}" for n in range(1, 13))])
    assert sum(each.path == "/robots.txt" for each in api.asked) == 1
    assert stored(database, "url", "verdict", "status", "title", "canonical") == [
        (url, "ok", 200, f"Page {n}", url) for n, url in enumerate(urls, 1)
    ]
    assert all(each > 0 for (each,) in stored(database, "response_ms"))
    assert 0 < result["response_ms"]["p50"] <= result["response_ms"]["p95"] <= result["response_ms"]["max"]
    assert ctx.progresses[-1] == {
        "processed": 12,
        "total": 12,
        "failed": 0,
        "skipped": 0,
        "message": "Checked 12 of 12 pages, 0 with problems",
    }


PAGES: dict[str, tuple[Reply, str, str]] = {
    "not found": (Reply("no", 404), "http_error", "answered 404"),
    "gone": (Reply("no", 410), "http_error", "answered 410"),
    "server error": (Reply("no", 500), "http_error", "answered 500"),
    "redirect": (redirect("/good"), "redirect", "redirects to {}/good"),
    "redirect to itself": (redirect("/page"), "redirect_loop", "redirects back to"),
    "redirect in circles": (redirect("/circle"), "redirect_loop", "redirects back to {}/page"),
    "redirect nowhere": (Reply(b"", 302), "redirect_broken", "without saying where"),
    "redirect without end": (redirect("/more?n=1"), "too_many_redirects", "more than 5 times"),
    "redirect to nothing": (redirect("/none"), "http_error", "answered 404; redirects to {}/none"),
    "redirect to another scheme": (redirect("file:///etc/passwd"), "refused", "does not start with https://"),
    "redirect elsewhere": (
        redirect("https://example.com/"),
        "redirect_elsewhere",
        "example.com is another host",
    ),
    "meta noindex": (
        page("{}/page", head='<META NAME="Robots" content="follow, NoIndex">'),
        "noindex",
        "meta robots",
    ),
    "meta none": (page("{}/page", head='<meta name=robots content="none">'), "noindex", "meta robots"),
    "header noindex": (page("{}/page", **{"X-Robots-Tag": "noindex, nofollow"}), "noindex", "X-Robots-Tag"),
    "header for another robot": (page("{}/page", **{"X-Robots-Tag": "otherbot: noindex"}), "ok", ""),
    "canonical missing": (page(None), "canonical_missing", "no canonical link"),
    "canonical empty": (page(""), "canonical_missing", "no canonical link"),
    "canonical relative": (page("/page"), "canonical_relative", "not absolute: /page"),
    "canonical other": (page("{}/good"), "canonical_other", "canonical page is {}/good"),
    "canonical other query": (page("{}/page?a=1"), "canonical_other", "?a=1"),
    "canonical spelt otherwise": (page("{}/page#top"), "ok", ""),
    "canonical twice": (
        page("{}/page", head='<link rel=canonical href="{}/good">'),
        "canonical_conflict",
        "2 canonical",
    ),
    "canonical twice the same": (page("{}/page", head='<link rel=canonical href="{}/page">'), "ok", ""),
    "canonical in the body": (
        Reply(b"<title>x</title><p><link rel=canonical href=/x>"),
        "canonical_missing",
        "",
    ),
    "title missing": (page("{}/page", None), "title_missing", "no title"),
    "title empty": (page("{}/page", " \n "), "title_empty", "empty title"),
    "title invisible": (page("{}/page", "&#x200b;&#7;"), "title_empty", "empty title"),
    "title long": (page("{}/page", "x" * 71), "title_long", "71 characters"),
    "title of an image": (page("{}/page", None, "<svg><title>no</title></svg>"), "title_missing", ""),
    "title in a script": (page("{}/page", None, "<script>'<title>no</title>'</script>"), "title_missing", ""),
    "no html": (Reply(b"%PDF-1.7", headers={"Content-Type": "application/pdf"}), "ok", ""),
    "two problems": (page(None, ""), "canonical_missing", "has no canonical link; has an empty title"),
}


@pytest.mark.parametrize("name", PAGES)
async def test_each_verdict(name: str, api: Api, attempt: MakeContext, database: Database) -> None:
    """A page gets the verdict of the worst that is wrong with it, and a detail that says it in words."""
    reply, verdict, detail = PAGES[name]

    def fill(text: str) -> str:
        return text.replace("{}", api.origin)

    body = reply.content.replace(b"{}", api.origin.encode())
    url = serve(api, "/page", Reply(body, reply.status, reply.headers))
    serve(api, "/good", page(api.url("/good")))
    serve(api, "/circle", redirect(url))
    api.routes["/more"] = lambda asked: redirect(f"/more?n={int(asked.query['n']) + 1}")
    found = await check_one(attempt(), url)
    assert found["verdict"] == verdict
    assert fill(detail) in found["detail"]


async def test_redirects_are_counted_and_end_somewhere(
    api: Api, attempt: MakeContext, database: Database
) -> None:
    """Hops are followed one by one; the table says how many there were and where they led."""
    start = serve(api, "/a", redirect("b", 302))
    serve(api, "/b", redirect(api.url("/d%C3%A9j%C3%A0#part"), 308))
    serve(api, "/d%C3%A9j%C3%A0", page(api.url("/d%C3%A9j%C3%A0")))
    found = await check_one(attempt(), start)
    assert found == {"verdict": "redirect", "detail": f"redirects to {api.url('/d%C3%A9j%C3%A0')} in 2 hops"}
    assert stored(database, "final_url", "redirects", "status", "title") == [
        (api.url("/d%C3%A9j%C3%A0"), 2, 200, "A page")
    ]


def test_a_redirect_to_https_is_named(database_kind: str) -> None:
    """The usual first hop of a site that moved to https is told from other redirects."""
    secured = Journey(("https://example.com/",), None, None)
    assert redirects_in_words("http://example.com/", secured).endswith(", from http to https")
    assert "from http" not in redirects_in_words("https://www.example.com/", secured)


async def test_no_redirect_is_followed_where_none_is_wanted(
    api: Api, attempt: MakeContext, database: Database
) -> None:
    """With max_redirects 0 the page itself is all that is asked for."""
    found = await check_one(attempt(), serve(api, "/a", redirect("/b")), max_redirects=0)
    assert found["verdict"] == "too_many_redirects"
    assert asked_for(api) == ["/a"]


async def test_a_page_that_does_not_answer_in_time(
    api: Api, attempt: MakeContext, database: Database
) -> None:
    """It is given up after the timeout, without a second try, and the others are checked all the same."""
    free = threading.Event()

    def hangs(_: Asked) -> Reply:
        assert free.wait(30)
        return Reply(b"")

    api.routes["/hangs"] = hangs
    urls = [api.url("/hangs"), *serve_pages(api, 3)]
    try:
        result = await check(attempt(), urls=urls, timeout="300ms", concurrency=2)
    finally:
        free.set()
    assert result["verdicts"] == {"timeout": 1, "ok": 3}
    assert "did not finish within 0.3 s" in result["pages"][0]["detail"]
    assert asked_for(api).count("/hangs") == 1


async def test_a_slow_page_is_reported(api: Api, attempt: MakeContext, database: Database) -> None:
    """What takes longer than `slow` is ok but for that."""
    found = await check_one(attempt(), serve_pages(api, 1)[0], slow="0.001ms")
    assert found["verdict"] == "slow"
    assert found["detail"].startswith("took ")


async def test_a_host_that_is_not_there(attempt: MakeContext, database: Database) -> None:
    """No connection is a problem of the page, not an error of the run."""
    found = await check_one(attempt(), "http://127.0.0.1:9/page")
    assert found["verdict"] == "unreachable"
    assert "cannot be reached" in found["detail"]


async def test_a_short_trouble_is_none(api: Api, attempt: MakeContext, database: Database) -> None:
    """A page that answers at the second try is ok."""
    url = serve_pages(api, 1)[0]
    api.plan.extend([Reply(b"", 404), Reply(b"", 502)])
    ctx = attempt()
    assert (await check_one(ctx, url))["verdict"] == "ok"
    assert ctx.slept == [1.0]


async def test_titles_that_pages_share(api: Api, attempt: MakeContext, database: Database) -> None:
    """Pages with one title are a problem, those apart that say another page is the one to show."""
    urls = serve_pages(api, 2)
    for n in range(3):
        urls.append(serve(api, f"/same{n}", page(api.url(f"/same{n}"), "Same")))
    urls.append(serve(api, "/copy", page(api.url("/same0"), "Same")))
    urls.append(serve(api, "/bare", page(None, "Same")))
    ctx = attempt()
    result = await check(ctx, urls=urls)
    assert result["verdicts"] == {
        "canonical_other": 1,
        "canonical_missing": 1,
        "title_duplicate": 3,
        "ok": 2,
    }
    assert result["duplicate_titles"] == [
        {"title": "Same", "pages": 4, "urls": [*urls[2:5], api.url("/bare")]}
    ]
    assert {row["detail"] for row in result["pages"] if row["verdict"] == "title_duplicate"} == {
        "4 pages have this title"
    }
    assert ctx.progresses[-1]["failed"] == result["problems"] == 5
    assert ctx.log.with_message("title of several pages") == [{"title": "Same", "pages": 4}]


async def test_hostile_text_stays_plain(api: Api, attempt: MakeContext, database: Database) -> None:
    """Escape sequences, direction marks and endless titles reach neither the table, nor the log, nor the result."""
    title = "\x1b]0;owned\x07\x1b[31mred\u202egnp\u2028\x00" + "y" * 100_000
    serve(api, "/page", page("{}\x1b[2J".format("x" * 3000), title))
    ctx = attempt()
    result = await check(ctx, urls=[api.url("/page")])
    seen = f"{stored(database, '*')}{ctx.log.entries}{result}"
    assert "]0;owned" in seen
    assert not [each for each in ("\\x1b", "\\u202e", "\\x00", "\\x07", "\\u2028") if each in seen]
    assert len(stored(database, "title")[0][0]) == 1_000


@pytest.mark.parametrize(
    ("content_type", "prefix", "codec"),
    [
        ("text/html; charset=windows-1251", "", "cp1251"),
        ("text/html", '<meta charset="windows-1251">', "cp1251"),
        ("text/html", '<meta http-equiv="Content-Type" content="text/html; charset=koi8-r">', "koi8-r"),
        ("text/html", "", "utf-8"),
        ("text/html; charset=unicode_escape", "", "utf-8"),
        ("text/html", "", "utf-16"),
    ],
)
async def test_titles_in_any_charset(
    content_type: str, prefix: str, codec: str, api: Api, attempt: MakeContext, database: Database
) -> None:
    """The charset comes from the header, else from the page; a name of a codec that is no charset is ignored."""
    body = f"{prefix}<title>Привет</title>".encode(codec)
    await check(attempt(), urls=[serve(api, "/page", Reply(body, headers={"Content-Type": content_type}))])
    assert stored(database, "title") == [("Привет",)]


async def test_a_page_that_is_compressed_unasked(api: Api, attempt: MakeContext, database: Database) -> None:
    """It is read all the same, and no further than the head of any page."""
    bomb = gzip.compress(page(api.url("/page"), "Packed").content + b" " * 20_000_000)
    headers = {"Content-Type": "text/html", "Content-Encoding": "gzip"}
    assert (await check_one(attempt(), serve(api, "/page", Reply(bomb, headers=headers))))["verdict"] == "ok"
    assert stored(database, "title") == [("Packed",)]


async def test_a_large_page_is_read_to_its_head(api: Api, attempt: MakeContext, database: Database) -> None:
    """A page of megabytes costs its first 256 KiB."""
    body = page(api.url("/page"), "Large").content + b"x" * 5_000_000
    url = serve(api, "/page", Reply(body, headers={"Content-Type": "text/html"}))
    assert (await check_one(attempt(), url))["verdict"] == "ok"


async def test_the_result_stays_within_its_limit(api: Api, attempt: MakeContext, database: Database) -> None:
    """With long URLs and titles the result holds fewer of them, says so, and the table has them all."""
    long = "é" * 990
    urls = []
    for n in range(300):
        path = f"/{n}/" + "a" * 1_900
        urls.append(serve(api, path, page(None, f"{long}{n % 100}")))
    sitemap = serve(api, "/sitemap.xml", urlset(urls))
    result = await check(attempt(), sitemap=sitemap)
    size = len(json.dumps(result, ensure_ascii=False, separators=(",", ":")).encode())
    assert size < 256 * 1024
    assert 0 < len(result["pages"]) < 200
    assert len(result["pages"]) + result["pages_left_out"] == result["problems"] == 300
    assert database.count("sitemap_check_pages") == 300


@pytest.mark.parametrize(
    ("params", "problem"),
    [
        ({}, "exactly one of sitemap and urls"),
        ({"sitemap": "https://example.com/s.xml", "urls": ["https://example.com/"]}, "exactly one"),
        ({"sitemap": "ftp://example.com/s.xml"}, "sitemap: is no URL; write it like https://"),
        ({"sitemap": "https:///s.xml"}, "sitemap: is no URL"),
        ({"urls": []}, "urls: "),
        ({"urls": ["https://example.com/", "example.com"]}, r"urls\.1: is no URL"),
        ({"urls": ["https://example.com/" + "x" * 2_048]}, r"urls\.0: .*2048"),
        ({"urls": ["https://example.com/"], "max_pages": 50_001}, "max_pages"),
        ({"urls": ["https://example.com/"], "concurrency": 0}, "concurrency"),
        ({"urls": ["https://example.com/"], "timeout": "2m"}, "timeout"),
        ({"urls": ["https://example.com/"], "user_agent": "a\nb"}, "user_agent"),
        ({"urls": ["https://example.com/"], "max_page": 1}, "max_page"),
    ],
)
def test_wrong_params_are_refused(params: dict[str, Any], problem: str, database_kind: str) -> None:
    """Params that cannot work are refused before anything is stored, in one line that names the field."""
    with pytest.raises(ValidationError, match=problem) as caught:
        sitemap_check.parse(params)
    assert "\n" not in str(caught.value)


def test_one_check_of_the_same_pages_at_a_time(database_kind: str) -> None:
    """Runs over the same sitemap exclude each other, whatever else they want; others do not."""

    def key(**params: Any) -> str | None:
        return sitemap_check.flight_key(sitemap_check.parse(params))

    site = "https://example.com/s.xml"
    assert key(sitemap=site) == key(sitemap=site, max_pages=5)
    assert len({key(sitemap=site), key(sitemap=f"{site}.gz"), key(urls=[site]), key(urls=[site, site])}) == 3
