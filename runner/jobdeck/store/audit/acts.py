"""What people do, in the audit: a row in the very transaction that does it, or one of its own for what was refused.

The act that is under way is known by the context it runs in, like the current task: whatever is written meanwhile
belongs to it. So no operation has to remember its row, and none is told of that is not stored.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final
from uuid import UUID

from sqlalchemy import func

from jobdeck.audit import AuditOutcome, digest
from jobdeck.errors import JobdeckError
from jobdeck.ids import new_id, show_id
from jobdeck.limits import REASON_CHARS, TAG_CHARS
from jobdeck.model import NewRun
from jobdeck.store.differences import Differences, Given
from jobdeck.store.given import MOST, GivenRows, insert_given
from jobdeck.store.schema import audit, audit_unsealed
from jobdeck.store.transaction import Rank, Told, Tx, verb
from jobdeck.text import clean

_FIRST: Final = 10
"""So many things that an act was done to are named; the others are counted."""


@dataclass(frozen=True, slots=True)
class Act:
    """One call of the client by somebody."""

    team_id: UUID | None
    actor: str
    action: str
    """What is acted on and how: `run.cancel`."""
    asked: Any = None
    """What it was asked for: an id, a name, or several."""
    kind: str = ""
    """What kind of thing the ids among them are."""
    reason: str | None = None


current: Final[ContextVar[Act | None]] = ContextVar("jobdeck_act", default=None)
"""The act that is under way; None for what nobody does by hand."""


@dataclass(frozen=True, slots=True)
class Refused:
    """An act that was denied or has failed."""

    act: Act
    outcome: AuditOutcome
    code: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class Done:
    """An act that took several transactions, or none of jobdeck's own, and is over."""

    act: Act
    after: Mapping[str, Any]


Part = tuple[Act, Sequence[Any], Sequence[Any]]
"""An act, items of it in a transaction, and their results."""


def write_acts(tx: Tx, parts: Iterable[Part]) -> None:
    """Store what the acts of a transaction have done: one row for each part of which anything was done."""
    _store(tx, [row for part in parts if (row := _done(tx, *part)) is not None])


@verb(Rank.CHANGE)
def store_refused(tx: Tx, items: Sequence[Refused]) -> Sequence[None]:
    """Store acts of which nothing was done, or not everything."""
    rows = []
    for item in items:
        targets, count = _asked(item.act)
        rows.append((item.act, item.outcome, item.code, max(count, item.count), targets, None, None))
    _store(tx, rows)
    return [None] * len(items)


@verb(Rank.CHANGE)
def store_done(tx: Tx, items: Sequence[Done]) -> Sequence[None]:
    """Store acts whose doing could not carry their rows."""
    rows = [(item.act, AuditOutcome.DONE, None, 1, _asked(item.act)[0], None, item.after) for item in items]
    _store(tx, rows)
    return [None] * len(items)


_Row = tuple[Act, AuditOutcome, str | None, int, Sequence[str], Any, Any]


def _done(tx: Tx, act: Act, items: Sequence[Any], found: Sequence[Any]) -> _Row | None:
    done = [
        (item, result)
        for item, result in zip(items, found, strict=True)
        if not isinstance(result, JobdeckError)
    ]
    if not done:
        return None
    if isinstance(done[0][0], NewRun):
        told, count = [_told_of_run(item, result) for item, result in done[:_FIRST]], len(done)
    else:
        told = [each for item, _ in done for each in tx.told.get(id(item), ())]
        count = len(told)
    if not told:
        targets, count = _asked(act)
        return act, AuditOutcome.DONE, None, count, targets, None, None
    return act, AuditOutcome.DONE, None, count, *_words(told[:_FIRST], single=count == 1)


def _words(told: Sequence[Told], *, single: bool) -> tuple[list[str], Any, Any]:
    targets = [each.target for each in told]
    if single:
        return targets, told[0].before, told[0].after
    before, after = [each.before for each in told], [each.after for each in told]
    return targets, before if any(before) else None, after if any(after) else None


def _told_of_run(run: NewRun, stored: UUID) -> Told:
    after: dict[str, Any] = {"type": run.job_type, "params": digest(run.params)}
    if stored != run.id:
        after["deduplicated"] = True
    if run.extras is not None:
        if run.extras.job is not None:
            after |= {"job": show_id("job", run.extras.job.id), "version": run.extras.job.version}
        if run.extras.continuation_of is not None:
            after["continuation_of"] = show_id("run", run.extras.continuation_of)
    return Told(show_id("run", stored), None, after)


def _asked(act: Act) -> tuple[list[str], int]:
    """What an act was asked for, and how many things that are."""
    asked = act.asked
    if isinstance(asked, Sequence) and not isinstance(asked, str | bytes):
        return [name for each in islice(asked, _FIRST) if (name := _name(act, each))], len(asked)
    name = _name(act, asked)
    return [name] if name else [], 1


def _name(act: Act, value: Any) -> str | None:
    if isinstance(value, UUID):
        return show_id(act.kind, value)
    # Jobs of a batch have a slug, runs of a batch a type.
    found = value if isinstance(value, str) else getattr(value, "slug", getattr(value, "job_type", None))
    return clean(found, TAG_CHARS) if isinstance(found, str) else None


_COLUMNS = (
    "number", "batch", "at", "team_id", "actor", "action", "outcome", "code", "count", "targets", "reason",
    "before", "after",
)  # fmt: skip


def _write(differences: Differences, given: Given) -> list[Any]:
    values = {**given.values, "login": differences.session_user()}
    # The batch is the same in all rows, so this is one row.
    unsealed = {"batch": given.values["batch"], "count": func.count()}
    return [
        insert_given(differences, given, audit, values),
        insert_given(differences, given, audit_unsealed, unsealed),
    ]


_rows = GivenRows([audit.c[name] for name in _COLUMNS], _write)


def _store(tx: Tx, rows: Sequence[_Row]) -> None:
    for start in range(0, len(rows), MOST):
        _store_batch(tx, rows[start : start + MOST])


def _store_batch(tx: Tx, rows: Sequence[_Row]) -> None:
    batch = new_id()
    _rows.write(
        tx,
        [
            (number, batch, tx.now, act.team_id, act.actor, act.action, outcome, code, count, _json(targets),
             None if act.reason is None else clean(act.reason, REASON_CHARS), _json(before), _json(after))
            for number, (act, outcome, code, count, targets, before, after) in enumerate(rows)
        ],
    )  # fmt: skip


# Made once: `json.dumps` with these options makes one for every text, which costs more than to write it.
_encode: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def _json(value: Mapping[str, Any] | Sequence[Any] | None) -> str | None:
    return None if value is None else _encode(value)
