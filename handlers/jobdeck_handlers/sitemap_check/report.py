"""The result of a check: counts, the first pages with problems, titles that several pages share."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from heapq import nsmallest
from itertools import groupby
from typing import Any, Final, TypedDict, TypeVar

from sqlalchemy import Connection, func, select

from jobdeck import limits
from jobdeck_handlers.sitemap_check.finding import Verdict
from jobdeck_handlers.sitemap_check.store import Held, mark, pages, tally

ROWS: Final = 200
"""Most pages with problems in the result; all of them are in the data file."""
TITLES: Final = 50
"""Most shared titles in the result."""
_URLS_PER_TITLE: Final = 5
# Shares of the result, so that long URLs and titles fit into it too.
_ROWS_BYTES: Final = limits.RESULT_BYTES // 2
_TITLES_BYTES: Final = limits.RESULT_BYTES // 4

_MAY_BE_MARKED: Final = (Verdict.OK, Verdict.SLOW)
# A page that has something worse, or says that another is the one to show, may have the title of that.
_HAS_OWN_TITLE: Final = (
    *_MAY_BE_MARKED,
    Verdict.TITLE_DUPLICATE,
    Verdict.TITLE_LONG,
    Verdict.CANONICAL_MISSING,
)

T = TypeVar("T")


class PageRow(TypedDict):
    """One page with a problem."""

    url: str
    status: int | None
    verdict: str
    detail: str


class SharedTitle(TypedDict):
    """One title that several pages have; `urls` are the first of them."""

    title: str
    pages: int
    urls: list[str]


class CheckResult(TypedDict):
    """Result of `sitemap_check`, over all attempts of the run."""

    total: int
    checked: int
    problems: int
    skipped: int
    verdicts: dict[str, int]
    statuses: dict[str, int]
    pages: list[PageRow]
    pages_left_out: int
    duplicate_titles: list[SharedTitle]
    sitemaps: int
    more_pages: bool
    """There are more than max_pages."""
    response_ms: dict[str, float]
    duration_s: float
    table: str


def mark_shared_titles(conn: Connection, held: Held) -> list[SharedTitle]:
    """Give pages that share a title their verdict; the titles, the most common first. Raises StaleLease."""
    titled = (
        (pages.c.run_id == held.run_id)
        & pages.c.verdict.in_(map(str, _HAS_OWN_TITLE))
        & (pages.c.title != "")
    )
    several = select(pages.c.title).where(titled).group_by(pages.c.title).having(func.count() > 1)
    rows = conn.execute(
        select(pages.c.title, pages.c.n, pages.c.url, pages.c.verdict)
        .where(titled & pages.c.title.in_(several))
        .order_by(pages.c.title, pages.c.n)
    )
    shared: list[SharedTitle] = []
    details: dict[int, str] = {}
    for title, group in groupby(rows, key=lambda row: str(row.title)):
        same = list(group)
        shared.append(
            SharedTitle(title=title, pages=len(same), urls=[row.url for row in same[:_URLS_PER_TITLE]])
        )
        details |= {
            row.n: f"{len(same)} pages have this title" for row in same if row.verdict in _MAY_BE_MARKED
        }
    mark(conn, held, details, Verdict.TITLE_DUPLICATE)
    return nsmallest(TITLES, shared, key=lambda each: (-each["pages"], each["title"]))


def result(conn: Connection, held: Held, titles: list[SharedTitle]) -> CheckResult:
    """The result of a check whose pages have all been visited."""
    counts = {verdict: count for verdict, count in tally(conn, held).items() if verdict is not None}
    problems = sum(count for verdict, count in counts.items() if verdict.problem)
    skipped = sum(count for verdict, count in counts.items() if verdict.skipped)
    rows = list(_fitting(_problem_rows(conn, held), _ROWS_BYTES))
    total = sum(counts.values())
    return CheckResult(
        total=total,
        checked=total - skipped,
        problems=problems,
        skipped=skipped,
        verdicts={str(verdict): counts[verdict] for verdict in Verdict if verdict in counts},
        statuses=_statuses(conn, held),
        pages=rows,
        pages_left_out=problems - len(rows),
        duplicate_titles=list(_fitting(titles, _TITLES_BYTES)),
        sitemaps=held.facts.sitemaps if held.facts else 0,
        more_pages=held.facts is not None and held.facts.cut,
        response_ms=_response_times(conn, held),
        duration_s=round(time.time() - held.started_at / 1_000_000, 3),
        table=pages.name,
    )


def _problem_rows(conn: Connection, held: Held) -> list[PageRow]:
    wanted = [str(verdict) for verdict in Verdict if verdict.problem]
    found = conn.execute(
        select(pages.c.url, pages.c.status, pages.c.verdict, pages.c.detail)
        .where((pages.c.run_id == held.run_id) & pages.c.verdict.in_(wanted))
        .order_by(pages.c.n)
        .limit(ROWS)
    )
    return [
        PageRow(url=row.url, status=row.status, verdict=row.verdict, detail=row.detail or "") for row in found
    ]


def _statuses(conn: Connection, held: Held) -> dict[str, int]:
    found = conn.execute(
        select(pages.c.status, func.count())
        .where((pages.c.run_id == held.run_id) & pages.c.status.is_not(None))
        .group_by(pages.c.status)
        .order_by(pages.c.status)
    )
    return {str(status): count for status, count in found}


def _response_times(conn: Connection, held: Held) -> dict[str, float]:
    timed = (pages.c.run_id == held.run_id) & pages.c.response_ms.is_not(None)
    count = conn.execute(select(func.count()).where(timed)).scalar_one()
    if not count:
        return {}
    ordered = select(pages.c.response_ms).where(timed).order_by(pages.c.response_ms)
    return {
        name: round(float(conn.execute(ordered.offset(int((count - 1) * share)).limit(1)).scalar_one()), 1)
        for name, share in (("p50", 0.5), ("p95", 0.95), ("max", 1.0))
    }


def _fitting(items: Iterable[T], most: int) -> Iterable[T]:
    """The first of the items, as many as have `most` bytes of JSON together."""
    size = 0
    for item in items:
        size += _size(item)
        if size > most:
            return
        yield item


def _size(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()) + 1
