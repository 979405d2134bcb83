"""A site on loopback and shorthand of the tests of `sitemap_check`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from xml.sax.saxutils import escape

from jobdeck_handlers.sitemap_check import CheckResult, sitemap_check
from tests.handlers.api import Api, Reply
from tests.handlers.context import RecordingContext
from tests.handlers.databases import Database

_NAMESPACE = "http://www.sitemaps.org/schemas/sitemap/0.9"


def page(canonical: str | None = None, title: str | None = "A page", head: str = "", **headers: str) -> Reply:
    """A page of HTML; what is None is left out."""
    parts = [
        "" if title is None else f"<title>{title}</title>",
        "" if canonical is None else f'<link rel="canonical" href="{canonical}">',
        head,
    ]
    text = f"<!DOCTYPE html><html><head>{''.join(parts)}</head><body><h1>Here</h1></body></html>"
    return Reply(text.encode(), headers={"Content-Type": "text/html; charset=utf-8"} | headers)


def redirect(location: str, status: int = 301) -> Reply:
    return Reply(b"", status, {"Location": location})


def urlset(urls: Iterable[str]) -> bytes:
    """A sitemap."""
    return _sitemap("urlset", "url", urls)


def index(urls: Iterable[str]) -> bytes:
    """An index of sitemaps."""
    return _sitemap("sitemapindex", "sitemap", urls)


def _sitemap(root: str, entry: str, urls: Iterable[str]) -> bytes:
    entries = "".join(f"<{entry}><loc>{escape(url)}</loc></{entry}>\n" for url in urls)
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<{root} xmlns="{_NAMESPACE}">\n{entries}</{root}>'.encode()
    )


def serve(api: Api, path: str, reply: Reply | bytes) -> str:
    """Have the site answer at `path`; the URL."""
    answer = reply if isinstance(reply, Reply) else Reply(reply)
    api.routes[path] = lambda _: answer
    return api.url(path)


def serve_pages(api: Api, count: int, start: int = 1) -> list[str]:
    """`count` pages that nothing is wrong with; their URLs."""
    urls = [api.url(f"/p{n}") for n in range(start, start + count)]
    for n, url in enumerate(urls, start):
        serve(api, f"/p{n}", page(url, f"Page {n}"))
    return urls


async def check(ctx: RecordingContext, **params: Any) -> CheckResult:
    """Run `sitemap_check`."""
    result: CheckResult = await sitemap_check(ctx, sitemap_check.parse(params))
    return result


async def check_one(ctx: RecordingContext, url: str, **params: Any) -> dict[str, Any]:
    """Check one page; its verdict and detail."""
    result = await check(ctx, urls=[url], **params)
    (verdict,) = result["verdicts"]
    detail = result["pages"][0]["detail"] if result["pages"] else ""
    return {"verdict": verdict, "detail": detail}


def stored(database: Database, *columns: str) -> list[tuple[Any, ...]]:
    """Columns of the pages in the data file, in their order."""
    rows = database.rows(f"SELECT {', '.join(columns)} FROM sitemap_check_pages ORDER BY run_id, n")
    return [tuple(row.values()) for row in rows]


def asked_for(api: Api) -> list[str]:
    """The paths the site was asked for, robots.txt aside, in order."""
    return [each.path for each in api.asked if each.path != "/robots.txt"]
