"""Leases without a worker: runs that are parked, or claimed from a pull queue. How they begin, and end unsaid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import BigInteger, Integer, bindparam, null, update

from jobdeck.clock import from_us
from jobdeck.limits import PARK_MAX
from jobdeck.states import AttemptOutcome
from jobdeck.store.events import Event, record
from jobdeck.store.schema import leases
from jobdeck.store.transaction import Hint, Tx
from jobdeck.verdict import Ending

_PARK_MAX_US = int(PARK_MAX * 1_000_000)


def park(tx: Tx, endings: Sequence[tuple[Any, Ending]]) -> list[int]:
    """Turn the leases of these running runs, whose rows are locked, into those of tokens; until when each lasts."""
    if not endings:
        return []
    tx.differences.lock_rows(tx.conn, leases.c.run_id, [run.id for run, _ in endings])
    rows = [_parked(run, ending, tx.now) for run, ending in endings]
    tx.conn.execute(_PARK, rows)
    record(
        tx,
        [
            Event(
                run.id,
                "parked",
                run.worker,
                {"attempt": run.attempt, "until": from_us(row["until"]).isoformat()},
            )
            for (run, _), row in zip(endings, rows, strict=True)
        ],
    )
    tx.hint(Hint.CHANGE)
    return [row["until"] for row in rows]


def _parked(run: Any, ending: Ending, now: int) -> dict[str, Any]:
    parking = ending.parking
    assert parking is not None  # noqa: S101  it is what these endings are told by
    until = now + parking.wait_us if parking.until is None else parking.until
    return {
        "run": run.id,
        "of_fence": run.fence,
        "hash": parking.token_hash,
        "until": min(until, now + _PARK_MAX_US),
        "wait": ending.retry_in_us,
        "at": now,
    }


_PARK = (
    update(leases)
    .where(leases.c.run_id == bindparam("run"), leases.c.fence == bindparam("of_fence", type_=Integer))
    .values(
        worker_id=null(),
        token_hash=bindparam("hash"),
        lease_until=bindparam("until", type_=BigInteger),
        retry_us=bindparam("wait", type_=BigInteger),
        beat_at=bindparam("at", type_=BigInteger),
        parked=True,
        stalled=False,
        # Of a handler that is not there any more no progress is expected.
        progress_gap=null(),
        revision=leases.c.revision + 1,
    )
)

LEASE_FACTS = (
    leases.c.worker_id,
    leases.c.claimed_at,
    leases.c.beat_at,
    leases.c.lease_until,
    leases.c.retry_us,
    leases.c.parked,
)
"""What `unacked` has to know of a lease."""


def unacked(row: Any) -> Ending:
    """How an attempt ends that nobody has ended by its token in time: a row with `LEASE_FACTS` and the `worker`."""
    if row.parked:
        words = "parked, and ended by nobody in time"
        return Ending(AttemptOutcome.TIMED_OUT, error=words, retry_in_us=row.retry_us)
    held = (row.lease_until - row.beat_at) // 1_000_000
    return Ending(AttemptOutcome.CRASHED, error=f"{row.worker} claimed it and did not ack it within {held} s")


def belongs_to_others(row: Any, ending: Ending) -> bool:
    """Whether a worker may not say this of a lease any more; what it has parked it may park again by the same token."""
    if row.token_hash is None:
        return False
    return ending.parking is None or ending.parking.token_hash != row.token_hash
