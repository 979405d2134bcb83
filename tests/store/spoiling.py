"""What somebody with the database's password may write past jobdeck."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Table, literal_column, update

from jobdeck.store.transaction import Rank, Tx, verb
from tests.store.deck import Deck

DEEP: Final = "[" * 100_000
BEYOND: Final = 2**63 - 1
FULL: Final = 2**31 - 1


async def spoil(deck: Deck, table: Table, values: dict[str, Any], **where: Any) -> None:
    """Write past jobdeck; a text between brackets is SQL, for what no value of Python's can be."""
    given = {
        name: literal_column(value[1:-1]) if isinstance(value, str) and value[:1] == "<" else value
        for name, value in values.items()
    }
    chosen = [table.c[name] == value for name, value in where.items()]
    await deck.database.write(execute_any, update(table).where(*chosen).values(given))


@verb(Rank.CHANGE)
def execute_any(tx: Tx, items: Sequence[Any]) -> Sequence[None]:
    for item in items:
        tx.conn.execute(item)
    return [None] * len(items)
