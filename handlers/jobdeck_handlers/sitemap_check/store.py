"""The report in the project's data file: the pages of each check, and how far it has come.

Every write of a run is guarded by its fence: whoever has taken the run over has raised it here, and from then on an
earlier worker's transaction finds no row to update.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Float,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    bindparam,
    func,
    select,
)

from jobdeck import StaleLease
from jobdeck_handlers.sitemap_check.finding import Finding, Verdict, plain
from jobdeck_handlers.sitemap_check.listing import Listing
from jobdeck_handlers.sitemap_check.params import URL_CHARS, CheckParams

KEPT: Final = 30 * 86_400 * 1_000_000
"""Microseconds that the pages of a check stay in the data file, counted from its last write."""

# Of the tables and what they mean. Another number makes a later version begin anew.
_FORMAT: Final = 1
_INSERTED: Final = 1_000

_metadata: Final = MetaData()
_checks: Final = Table(
    "_jobdeck_sitemap_checks",
    _metadata,
    Column("run_id", Text, primary_key=True),
    Column("params", Text, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("facts", Text),
    Column("started_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
)
pages: Final = Table(
    "sitemap_check_pages",
    _metadata,
    Column("run_id", Text, primary_key=True),
    Column("n", Integer, primary_key=True),
    Column("url", Text, nullable=False),
    Column("verdict", Text),
    Column("status", Integer),
    Column("detail", Text),
    Column("final_url", Text),
    Column("redirects", Integer),
    Column("title", Text),
    Column("canonical", Text),
    Column("response_ms", Float),
    Index("sitemap_check_pages_verdict", "run_id", "verdict", "n"),
)


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known once the pages are listed."""

    sitemaps: int
    cut: bool


@dataclass(frozen=True, slots=True)
class Held:
    """A check as one worker holds it. `facts` is None while the pages are not listed."""

    run_id: str
    fence: int
    started_at: int
    facts: Facts | None


def take_over(conn: Connection, run_id: UUID, fence: int, params: CheckParams) -> Held:
    """Begin or go on with the check of a run, as the holder of `fence`. Raises StaleLease where a later one has it."""
    _metadata.create_all(conn)
    mine = _checks.c.run_id == run_id.hex
    found = conn.execute(select(_checks).where(mine).with_for_update()).one_or_none()
    if found is not None and found.fence > fence:
        raise StaleLease
    if found is not None and found.params == _stamp(params):
        conn.execute(_checks.update().where(mine).values(fence=fence, updated_at=_now()))
        facts = None if found.facts is None else Facts(**json.loads(found.facts))
        return Held(run_id.hex, fence, found.started_at, facts)
    _clear(conn, [run_id.hex, *_old(conn)])
    held = Held(run_id.hex, fence, _now(), None)
    conn.execute(
        _checks.insert().values(
            run_id=held.run_id,
            params=_stamp(params),
            fence=fence,
            started_at=held.started_at,
            updated_at=held.started_at,
        )
    )
    return held


def save_listing(conn: Connection, held: Held, listing: Listing) -> Facts:
    """Store which pages there are to check. Raises StaleLease."""
    facts = Facts(listing.sitemaps, listing.cut)
    _guard(conn, held, {"facts": json.dumps(asdict(facts))})
    entries = enumerate(listing.entries.items(), 1)
    while some := [_row(held, n, url, finding) for n, (url, finding) in islice(entries, _INSERTED)]:
        conn.execute(pages.insert(), some)
    return facts


def pending(conn: Connection, held: Held, after: int, most: int) -> Sequence[tuple[int, str]]:
    """Number and URL of pages that are not checked, in order, those after number `after`."""
    wanted = (pages.c.run_id == held.run_id) & pages.c.verdict.is_(None) & (pages.c.n > after)
    found = conn.execute(select(pages.c.n, pages.c.url).where(wanted).order_by(pages.c.n).limit(most))
    return [(row.n, row.url) for row in found]


def save(conn: Connection, held: Held, findings: Iterable[tuple[int, Finding]]) -> None:
    """Store what was found. Raises StaleLease, storing nothing, where the run belongs to another by now."""
    _guard(conn, held, {})
    same = (pages.c.run_id == held.run_id) & (pages.c.n == bindparam("page"))
    conn.execute(
        pages.update().where(same),
        [asdict(finding) | {"verdict": str(finding.verdict), "page": n} for n, finding in findings],
    )


def tally(conn: Connection, held: Held) -> Counter[Verdict | None]:
    """How many pages there are of each verdict; None: not checked yet."""
    counts = conn.execute(
        select(pages.c.verdict, func.count()).where(pages.c.run_id == held.run_id).group_by(pages.c.verdict)
    )
    return Counter({None if verdict is None else Verdict(verdict): count for verdict, count in counts})


def _guard(conn: Connection, held: Held, values: Mapping[str, Any]) -> None:
    mine = (_checks.c.run_id == held.run_id) & (_checks.c.fence == held.fence)
    if conn.execute(_checks.update().where(mine).values(updated_at=_now(), **values)).rowcount != 1:
        raise StaleLease


def mark(conn: Connection, held: Held, details: Mapping[int, str], verdict: Verdict) -> None:
    """Give pages, by number, a verdict that only all pages together show. Raises StaleLease."""
    _guard(conn, held, {})
    if details:
        joined = func.coalesce(func.nullif(pages.c.detail, "") + "; ", "") + bindparam("why")
        same = (pages.c.run_id == held.run_id) & (pages.c.n == bindparam("page"))
        conn.execute(
            pages.update().where(same).values(verdict=str(verdict), detail=joined),
            [{"page": n, "why": why} for n, why in details.items()],
        )


def _row(held: Held, n: int, url: str, finding: Finding | None) -> dict[str, Any]:
    # All with the same columns, so that they can be inserted together.
    values = {} if finding is None else asdict(finding) | {"verdict": str(finding.verdict)}
    empty = {column.name: None for column in pages.columns}
    return empty | values | {"run_id": held.run_id, "n": n, "url": plain(url, URL_CHARS)}


def _old(conn: Connection) -> list[str]:
    return list(conn.scalars(select(_checks.c.run_id).where(_checks.c.updated_at < _now() - KEPT)))


def _clear(conn: Connection, run_ids: Sequence[str]) -> None:
    for table in (pages, _checks):
        conn.execute(table.delete().where(table.c.run_id.in_(run_ids)))


def _stamp(params: CheckParams) -> str:
    return f"{_FORMAT}:{params.digest}"


def _now() -> int:
    return time.time_ns() // 1000
