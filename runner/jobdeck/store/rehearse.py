"""What an enqueue would do: done, looked at, and taken back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from jobdeck.errors import JobdeckError
from jobdeck.model import NewRun, Run, TeamScope
from jobdeck.store.enqueue import enqueue
from jobdeck.store.lists.detail import show
from jobdeck.store.transaction import Rank, Tx, verb


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """A run that is not to be stored."""

    scope: TeamScope
    run: NewRun


@verb(Rank.ENQUEUE)
def rehearse(tx: Tx, items: Sequence[Rehearsal]) -> Sequence[Run | JobdeckError]:
    """Each run as it would stand there, or the one that stands for it already, or what `enqueue` refuses it with."""
    return [_rehearse(tx, item) for item in items]


def _rehearse(tx: Tx, item: Rehearsal) -> Run | JobdeckError:
    # Counts and hints are those of a transaction that will not be.
    trial = Tx(tx.conn, tx.now, tx.differences, patient=tx.patient)
    with tx.conn.begin_nested() as savepoint:
        (result,) = enqueue(trial, [item.run])
        found: Run | JobdeckError | None = result if isinstance(result, JobdeckError) else None
        if isinstance(result, UUID):
            found = show(tx.conn, tx.now, item.scope, result)
        savepoint.rollback()
    assert found is not None  # noqa: S101  it was stored a moment ago
    return found
