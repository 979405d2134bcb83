"""Seals on the audit: a hash chain over batches of rows that are stored already, so that no writer waits for another.

A batch that a transaction adds stands in `audit_unsealed` from the same commit on, and leaves it in the transaction
that seals it. So every row is either sealed, once, or waits to be, however late its transaction has come to an end,
and no order of numbers or times has to be relied on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, RowMapping, delete, func, select

from jobdeck.store.schema import audit, audit_seals, audit_unsealed
from jobdeck.store.transaction import Rank, Tx, verb

FIRST_PREVIOUS: Final = "0" * 64
"""What the first seal has for the hash of the one before it."""
_BATCHES: Final = 500
_ROWS: Final = 1_000
"""A seal is full from so many rows on: its digests are 67 kB then."""

Digests = Mapping[UUID, Sequence[str]]
"""Of each batch the digests of its rows."""


def any_unsealed(conn: Connection) -> bool:
    """Whether there is anything to seal."""
    return conn.execute(select(audit_unsealed.c.batch).limit(1)).one_or_none() is not None


@verb(Rank.SEAL)
def seal(tx: Tx, items: Sequence[None]) -> Sequence[int]:
    """Seal what is there, up to a full seal; how many rows. None where another worker does it at the same time."""
    return [_seal(tx) for _ in items]


def _seal(tx: Tx) -> int:
    # The last seal is looked at first: whoever has made another one meanwhile makes this one impossible.
    head = last_seal(tx.conn)
    found = _next_batches(tx.conn)
    if not found:
        return 0
    count = sum(map(len, found.values()))
    row = {
        "id": 1 if head is None else head["id"] + 1,
        "at": tx.now,
        "count": count,
        "entries": _entries_text(found),
        "previous": FIRST_PREVIOUS if head is None else head["hash"],
    }
    row["hash"] = seal_hash(row)
    made = tx.conn.execute(tx.differences.insert(audit_seals).values(row).on_conflict_do_nothing())
    if made.rowcount != 1:
        return 0
    gone = tx.conn.execute(delete(audit_unsealed).where(audit_unsealed.c.batch.in_(found)))
    if gone.rowcount != len(found):
        raise RuntimeError("rows of the audit were sealed twice at the same time")
    return count


def last_seal(conn: Connection) -> RowMapping | None:
    """The newest seal."""
    query = select(audit_seals).order_by(audit_seals.c.id.desc()).limit(1)
    return conn.execute(query).mappings().one_or_none()


def _next_batches(conn: Connection) -> dict[UUID, list[str]]:
    """The batches of the next seal. One whose rows are not all there is none: it stays, and checking tells of it."""
    there = select(func.count()).where(audit.c.batch == audit_unsealed.c.batch).scalar_subquery()
    whole = (
        select(audit_unsealed).where(there == audit_unsealed.c.count).order_by(audit_unsealed.c.batch)
    ).limit(_BATCHES)
    chosen, size = [], 0
    for batch, count in conn.execute(whole):
        if size >= _ROWS:
            break
        chosen.append(batch)
        size += count
    return digests_of(conn, chosen)


def digests_of(conn: Connection, batches: Sequence[UUID]) -> dict[UUID, list[str]]:
    """The rows of these batches as they are now."""
    found: dict[UUID, list[str]] = {}
    rows = select(audit).where(audit.c.batch.in_(batches)).order_by(audit.c.batch, audit.c.number)
    for row in conn.execute(rows) if batches else ():
        found.setdefault(row.batch, []).append(row_digest(row))
    return found


def row_digest(row: Sequence[Any]) -> str:
    """Of all columns, in the order of the table."""
    values = [value.hex if isinstance(value, UUID) else value for value in row]
    return _sha256(json.dumps(values, ensure_ascii=False, separators=(",", ":")))


def seal_hash(row: Mapping[str, Any]) -> str:
    """What the next seal has as `previous`."""
    return _sha256("\n".join(str(row[name]) for name in ("previous", "id", "at", "count", "entries")))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _entries_text(found: Digests) -> str:
    return json.dumps({batch.hex: digests for batch, digests in found.items()}, separators=(",", ":"))


def entries_of(text: str) -> dict[UUID, list[str]]:
    """What a seal holds. Raises ValueError for what no seal says."""
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("a seal names batches")
    return {UUID(batch): [str(digest) for digest in digests] for batch, digests in found.items()}
