"""The audit in the words of a test: read it, seal it, and change it as only the owner of the database can."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import text

from jobdeck.audit import AuditReport
from jobdeck.store.audit.check import check_audit
from jobdeck.store.audit.seals import seal
from jobdeck.store.database import Database
from jobdeck.store.schema import audit
from jobdeck.store.transaction import Rank, Tx, verb
from tests.store.deck import Deck


async def acts(deck: Deck) -> list[tuple[str, str, str | None]]:
    """Action, outcome and code of every act, oldest first."""
    return [(row["action"], row["outcome"], row["code"]) for row in await deck.rows(audit)]


async def seal_all(database: Database) -> int:
    """Seal what is there; how many rows."""
    rows = 0
    while sealed := await database.write(seal, None):
        rows += sealed
    return rows


async def checked(database: Database) -> AuditReport:
    """What checking finds."""
    return await database.read(check_audit)


@verb(Rank.CHANGE)
def behind_the_triggers(tx: Tx, items: Sequence[str]) -> Sequence[None]:
    """Statements on what is append-only, with nothing in their way."""
    on_sqlite = tx.differences.name == "sqlite"
    for table in ("audit", "audit_seals"):
        if on_sqlite:
            for change in ("update", "delete"):
                tx.conn.execute(text(f"DROP TRIGGER IF EXISTS {table}_no_{change}"))
        else:
            tx.conn.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER USER"))
    for item in items:
        assert tx.conn.execute(text(item)).rowcount > 0, item
    return [None] * len(items)


@verb(Rank.CHANGE)
def plainly(tx: Tx, items: Sequence[str]) -> Sequence[Any]:
    """Statements as anybody who has the database open can try them."""
    for item in items:
        tx.conn.execute(text(item))
    return [None] * len(items)
