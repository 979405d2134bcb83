"""A check of a site whose worker dies in the middle."""

from __future__ import annotations

import json
import threading

from tests.acceptance.deck import PATIENCE, Deck
from tests.handlers.api import Asked, Reply, serving
from tests.handlers.checking import asked_for, page, serve, serve_pages, urlset

PAGES = 8


def test_a_killed_worker_is_replaced_and_the_check_goes_on(deck: Deck) -> None:
    """kill -9 while a page is awaited: another worker asks only for what is missing, and reports on all pages."""
    reached, release = threading.Event(), threading.Event()
    with serving() as api:

        def hangs_once(_: Asked) -> Reply:
            if not reached.is_set():
                # Those before it are stored by now: one page is under way at a time.
                reached.set()
                release.wait(PATIENCE)
            return page(api.url("/p5"), "Page 5")

        urls = serve_pages(api, PAGES)
        api.routes["/p5"] = hangs_once
        sitemap = serve(api, "/sitemap.xml", urlset(urls))
        params = {"sitemap": sitemap, "concurrency": 1, "timeout": "1m"}
        run = deck.json("trigger", "sitemap_check", "--params", json.dumps(params))
        first = deck.worker()
        assert reached.wait(PATIENCE)
        deck.until(lambda: deck.rows("sitemap_check_pages")[3]["verdict"])
        first.kill()
        first.wait()
        release.set()
        deck.worker()
        shown = deck.until(lambda: (each := deck.show(run["id"])) and each["finished_at"] and each)
        asked = asked_for(api)
    assert [attempt["outcome"] for attempt in shown["attempts"]] == ["crashed", "completed"]
    assert (shown["result"]["total"], shown["result"]["verdicts"]) == (PAGES, {"ok": PAGES})
    assert [row["url"] for row in deck.rows("sitemap_check_pages") if row["verdict"] == "ok"] == urls
    assert sorted(asked) == sorted(["/sitemap.xml", *(f"/p{n}" for n in range(1, PAGES + 1)), "/p5"])
