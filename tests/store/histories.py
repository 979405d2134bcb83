"""Databases with a short and a long history, made once for all tests, and what a piece of work costs on them."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from sqlalchemy import Connection, event, text

from jobdeck.store.open import upgrade
from jobdeck.store.transaction import Rank, Tx, verb
from tests.bulk import Bulk, fill
from tests.databases import opened

SHORT: Final = 10_000
LONG: Final = 1_000_000

Work: TypeAlias = Callable[[Tx, Bulk], object]

PLANNERS: Final = {"sqlite": ("measured", "blind"), "postgresql": ("custom", "generic")}
"""How plans are made. SQLite: with the statistics of ANALYZE or, as jobdeck leaves it, without. PostgreSQL: for the
values of one call, or once for all, as it may do for a statement that is used again."""

_STEPS: Final = 50
_STATEMENT = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\b")


@dataclass(frozen=True, slots=True)
class History:
    """A filled database that nobody has open. What is done on it has to be taken back."""

    url: str
    made: Bulk

    async def cost(self, planner: str, work: Work) -> int:
        """What `work` costs here."""
        return await cost_of(self.url, planner, lambda tx: work(tx, self.made))


def make_history(url: str, number: int) -> History:
    """Migrate and fill an empty database."""
    asyncio.run(upgrade(url))
    return History(url, fill(url, number))


async def cost_of(url: str, planner: str, work: Callable[[Tx], object]) -> int:
    """How much is touched by everything that `work` asks of the database; what it does is taken back.

    SQLite: steps of its virtual machine, some ten for each row. PostgreSQL: pages of 8 KiB.
    """

    @verb(Rank.CHANGE)
    def look(tx: Tx, items: Sequence[None]) -> Sequence[int]:
        measure = _steps if tx.conn.dialect.name == "sqlite" else _pages
        found = []
        for _ in items:
            with tx.conn.begin_nested() as savepoint:
                found.append(measure(tx, planner, lambda: work(tx)))
                savepoint.rollback()
        return found

    async with opened(url) as database:
        return await database.write(look, None)


def _steps(tx: Tx, planner: str, work: Callable[[], object]) -> int:
    if planner == "blind":
        tx.conn.execute(text("DELETE FROM sqlite_stat1"))
        tx.conn.execute(text("ANALYZE sqlite_schema"))
    counted = 0

    def count() -> None:
        nonlocal counted
        counted += _STEPS

    driver: Any = tx.conn.connection.driver_connection
    driver.set_progress_handler(count, _STEPS)
    try:
        work()
    finally:
        driver.set_progress_handler(None, 0)
    return counted


def _pages(tx: Tx, planner: str, work: Callable[[], object]) -> int:
    # Once to see which statements there are; after it is taken back each of them is done again, and its pages counted.
    with _noted(tx.conn) as seen, tx.conn.begin_nested() as savepoint:
        work()
        savepoint.rollback()
    tx.conn.execute(text(f"SET LOCAL plan_cache_mode = force_{planner}_plan"))
    return sum(_pages_of(tx.conn, *statement) for statement in seen if _STATEMENT.match(statement[0]))


def _pages_of(conn: Connection, statement: str, parameters: Sequence[Any]) -> int:
    if "pg_notify" in statement:
        return 0
    values = ", ".join(map(_literal, parameters))
    conn.exec_driver_sql(f"PREPARE work AS {statement}")
    words = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE work{f'({values})' if values else ''}"
    (found,) = conn.exec_driver_sql(words).scalars()
    conn.exec_driver_sql("DEALLOCATE work")
    plan = (json.loads(found) if isinstance(found, str) else found)[0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


def _literal(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bool | int | float):
        return str(value)
    if isinstance(value, bytes):
        return f"'\\x{value.hex()}'"
    if isinstance(value, list | tuple | set | frozenset):
        return _quoted("{" + ",".join(map(_element, value)) + "}")
    return _quoted(str(value))


def _element(value: Any) -> str:
    return "NULL" if value is None else '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _quoted(words: str) -> str:
    return "'" + words.replace("'", "''") + "'"


@contextmanager
def _noted(conn: Connection) -> Iterator[list[tuple[str, Any]]]:
    seen: list[tuple[str, Any]] = []

    def note(_conn: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool) -> None:
        seen.extend((statement, each) for each in (parameters if many else [parameters]))

    event.listen(conn, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(conn, "before_cursor_execute", note)
