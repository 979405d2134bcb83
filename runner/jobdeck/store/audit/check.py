"""Whether the audit is as it was sealed: no row edited, removed or added, and no seal either."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar
from uuid import UUID

from sqlalchemy import Connection, RowMapping, func, select

from jobdeck.audit import AuditFault, AuditReport
from jobdeck.clock import from_us
from jobdeck.ids import show_id
from jobdeck.store.audit.seals import FIRST_PREVIOUS, entries_of, row_digest, seal_hash
from jobdeck.store.schema import audit, audit_seals, audit_unsealed

T = TypeVar("T")

_AT_ONCE: Final = 200
_FAULTS: Final = 100
"""So many are told of; the first one is what matters."""


def check_audit(conn: Connection, team_id: UUID | None = None) -> AuditReport:
    """Read everything, in one snapshot; memory for one seal and 200 batches at a time.

    What rows say is told of those of one team alone, or (`team_id` None) of all.
    """
    return _Check(conn, team_id).report()


class _Check:
    def __init__(self, conn: Connection, team_id: UUID | None) -> None:
        self._conn = conn
        self._team_id = team_id
        self._faults: list[AuditFault] = []
        self._seen = 0
        """Rows of batches that are sealed or wait to be."""

    def report(self) -> AuditReport:
        seals, head = 0, FIRST_PREVIOUS
        for seal in self._seals():
            self._check_place(seal, seals, head)
            self._check_rows(seal)
            seals, head = int(seal["id"]), str(seal["hash"])
        unsealed = self._check_unsealed()
        rows = int(self._conn.execute(select(func.count()).select_from(audit)).scalar_one())
        if rows != self._seen:
            self._find_added()
        return AuditReport(rows, unsealed, seals, head, tuple(self._faults[:_FAULTS]))

    def _tell(self, seal: int | None, text: str) -> None:
        if len(self._faults) < _FAULTS:
            self._faults.append(AuditFault(seal, text))

    def _seals(self) -> Iterator[RowMapping]:
        last: int | None = None
        while True:
            query = select(audit_seals).order_by(audit_seals.c.id).limit(1)
            seal = self._conn.execute(query if last is None else query.where(audit_seals.c.id > last))
            found = seal.mappings().one_or_none()
            if found is None:
                return
            last = found["id"]
            yield found

    def _check_place(self, seal: RowMapping, before: int, previous: str) -> None:
        number = int(seal["id"])
        if number != before + 1:
            self._tell(number, f"before seal {number}, {number - before - 1} seals are missing")
        elif seal["previous"] != previous:
            self._tell(number, f"seal {number} does not follow seal {before}: one of them has been changed")
        if seal["hash"] != seal_hash(dict(seal)):
            self._tell(number, f"seal {number} has been changed")

    def _check_rows(self, seal: RowMapping) -> None:
        number = int(seal["id"])
        try:
            entries = entries_of(seal["entries"])
        except ValueError:
            self._tell(number, f"seal {number} cannot be read")
            return
        for some in _in_parts(list(entries)):
            found = self._rows_of(some)
            for batch in some:
                self._compare(number, batch, entries[batch], found.get(batch, {}))

    def _compare(self, seal: int, batch: UUID, sealed: Sequence[str], found: Mapping[int, Any]) -> None:
        for place, digest in enumerate(sealed):
            row = found.get(place)
            if row is None:
                self._tell(seal, f"{_name(batch, place)} has been removed")
            elif row_digest(row) != digest:
                self._tell(seal, f"{_name(batch, place)} has been edited: it is now {self._words(row)}")
        for place in sorted(set(found) - set(range(len(sealed)))):
            self._tell(seal, f"{_name(batch, place)} has been added: {self._words(found[place])}")

    def _words(self, row: Any) -> str:
        return _said(row) if self._team_id in (None, row.team_id) else "an act of another team"

    def _rows_of(self, batches: Sequence[UUID]) -> dict[UUID, dict[int, Any]]:
        found: dict[UUID, dict[int, Any]] = {}
        for row in self._conn.execute(select(audit).where(audit.c.batch.in_(batches))):
            found.setdefault(row.batch, {})[row.number] = row
            self._seen += 1
        return found

    def _check_unsealed(self) -> int:
        """How many rows wait for a seal."""
        unsealed = 0
        for some in _in_parts(self._conn.execute(select(audit_unsealed)).all()):
            found = self._rows_of([row.batch for row in some])
            for batch, count in some:
                there = len(found.get(batch, ()))
                unsealed += there
                if there != count:
                    what = f"{count} rows were written and {there} are there"
                    self._tell(None, f"of {show_id('aud', batch)}, not sealed yet, {what}")
        return unsealed

    def _find_added(self) -> None:
        """Rows of batches that nobody has written as such."""
        known = {row.batch for row in self._conn.execute(select(audit_unsealed.c.batch))}
        for seal in self._seals():
            known |= _batches(seal)
        for row in self._conn.execute(select(audit).order_by(audit.c.batch, audit.c.number)):
            if row.batch not in known:
                self._tell(None, f"{_name(row.batch, row.number)} has been added: {self._words(row)}")


def _in_parts(values: Sequence[T]) -> Iterator[Sequence[T]]:
    return (values[start : start + _AT_ONCE] for start in range(0, len(values), _AT_ONCE))


def _batches(seal: RowMapping) -> set[UUID]:
    try:
        return set(entries_of(seal["entries"]))
    except ValueError:
        return set()


def _name(batch: UUID, number: int) -> str:
    return f"{show_id('aud', batch)}.{number}"


def _said(row: Any) -> str:
    return f"{row.action} by {row.actor} at {from_us(row.at):%Y-%m-%d %H:%M:%S}, {row.outcome}"
