"""Keys that stand for a time, whatever becomes of the run that brought them: idempotency keys, and dedupe windows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import bindparam, delete, insert, select

from jobdeck.errors import IdempotencyMismatch
from jobdeck.ids import show_id
from jobdeck.limits import IDEMPOTENCY_WINDOW
from jobdeck.model import NewRun
from jobdeck.store.schema import run_keys
from jobdeck.store.transaction import Tx

_IDEMPOTENCY: Final = "idempotency"
_DEDUPE: Final = "dedupe"
_FORGET_AT_ONCE: Final = 500


class _Key(NamedTuple):
    team_id: UUID
    kind: str
    key: str


class _Standing(NamedTuple):
    run_id: UUID
    request: str


class TimedKeys:
    """The keys that some new runs bring, as far as they stand already; grows with those that are stored meanwhile."""

    def __init__(self, tx: Tx, items: Sequence[NewRun]) -> None:
        self._tx = tx
        self._standing: dict[_Key, _Standing] = {}
        self._new: list[dict[str, Any]] = []
        wanted = sorted({key for item in items for key, _, _ in _keys(item)})
        if wanted:
            self._find(wanted)

    def _find(self, wanted: Sequence[_Key]) -> None:
        # One that has run out gives way first. Who makes the same key at this moment is waited for by the insert.
        conn, now = self._tx.conn, self._tx.now
        conn.execute(
            _GIVE_WAY, [{"team": k.team_id, "what": k.kind, "name": k.key, "now": now} for k in wanted]
        )
        query = select(run_keys).where(
            run_keys.c.team_id.in_({key.team_id for key in wanted}),
            run_keys.c.kind.in_({key.kind for key in wanted}),
            run_keys.c.key.in_({key.key for key in wanted}),
        )
        for row in conn.execute(query):
            self._standing[_Key(row.team_id, row.kind, row.key)] = _Standing(row.run_id, row.request)

    def run_of(self, item: NewRun) -> UUID | None:
        """The run that stands for this one already. Raises IdempotencyMismatch where it was asked for otherwise."""
        for key, request, _ in _keys(item):
            standing = self._standing.get(key)
            if standing is None:
                continue
            if standing.request != request:
                shown = show_id("run", standing.run_id)
                raise IdempotencyMismatch(
                    f"this idempotency key stands for another request, the one of {shown}; use a new key",
                    existing_run_id=shown,
                )
            return standing.run_id
        return None

    def take(self, item: NewRun) -> None:
        """This one is stored now."""
        for key, request, seconds in _keys(item):
            self._standing[key] = _Standing(item.id, request)
            until = self._tx.now + int(seconds * 1_000_000)
            self._new.append({**key._asdict(), "run_id": item.id, "request": request, "until": until})

    def write(self) -> None:
        """Store the keys of what was taken, in one order for all transactions."""
        if self._new:
            self._new.sort(key=lambda row: (row["team_id"], row["kind"], row["key"]))
            self._tx.conn.execute(insert(run_keys), self._new)
            self._new = []


_GIVE_WAY: Final = delete(run_keys).where(
    run_keys.c.team_id == bindparam("team"),
    run_keys.c.kind == bindparam("what"),
    run_keys.c.key == bindparam("name"),
    run_keys.c.until <= bindparam("now"),
)


def _keys(item: NewRun) -> Iterator[tuple[_Key, str, float]]:
    """The keys of a run, each with the digest that must be the same, and for how many seconds it stands."""
    extras = item.extras
    if extras is None:
        return
    if extras.idempotency_key is not None:
        yield _Key(item.team_id, _IDEMPOTENCY, extras.idempotency_key), extras.request, IDEMPOTENCY_WINDOW
    if extras.dedupe_key is not None and extras.dedupe_window is not None:
        window = extras.dedupe_window.total_seconds()
        yield _Key(item.team_id, _DEDUPE, f"{item.job_type}\n{extras.dedupe_key}"), "", window


def forget_old_keys(tx: Tx) -> None:
    """Drop some of the keys that have run out."""
    old = select(run_keys.c.team_id, run_keys.c.kind, run_keys.c.key).where(run_keys.c.until <= tx.now)
    rows = tx.conn.execute(tx.differences.unlocked_only(old.limit(_FORGET_AT_ONCE), run_keys)).all()
    if rows:
        named = [{"team": row.team_id, "what": row.kind, "name": row.key, "now": tx.now} for row in rows]
        tx.conn.execute(_GIVE_WAY, named)
