"""Notifications on their way: taken by a sender for a time, tried, and told of.

`tries` grows with every take and never goes back, so that it tells the one who took a notification last from all who
took it before: what they have to tell changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, bindparam, exists, select, update

from jobdeck import limits
from jobdeck.errors import Conflict, JobdeckError, NotFound
from jobdeck.ids import show_id
from jobdeck.notifiers import CALLBACK, WEBHOOK, DeliveryState
from jobdeck.store.outbox.announce import digest_id
from jobdeck.store.outbox.webhooks import secrets_of
from jobdeck.store.schema import disabled_webhooks, outbox
from jobdeck.store.schema.outbox import DUE
from jobdeck.store.transaction import Hint, Rank, Tx, verb

_GONE: Final = 410
# A receiver that has all its places leaves its notifications where they are; some others are looked for behind them.
_LOOKS: Final = 200


@dataclass(frozen=True, slots=True)
class Take:
    """A sender asks for at most `limit` notifications of these channels."""

    channels: tuple[str, ...]
    limit: int
    lease_us: int
    busy: Mapping[str, int]
    """How many the sender has under way to each receiver."""


class Parcel(NamedTuple):
    """One notification that is to be sent now."""

    id: UUID
    tries: int
    team_id: UUID
    channel: str
    receiver: str
    endpoint: str
    body: str
    secrets: tuple[str, ...] = ()
    """What a webhook is signed with: the newest one, and the one before while that still counts."""

    @property
    def message_id(self) -> str:
        """Equal in every try."""
        return show_id("msg", self.id)


class Fate(StrEnum):
    """What became of a try."""

    DELIVERED = "delivered"
    AGAIN = "again"
    """Later, if there are tries left."""
    FAILED = "failed"
    GONE = "gone"
    """The endpoint wants no more notifications at all."""


class Tried(NamedTuple):
    """What a sender tells of a notification that it took."""

    id: UUID
    tries: int
    fate: Fate
    code: int | None = None
    error: str | None = None
    wait_us: int = 0
    endpoint: str | None = None
    """Where it is still to go, if it has arrived in part."""


def anything_due(conn: Connection, now: int, channels: Sequence[str]) -> bool:
    """Whether something of these channels waits to be sent."""
    found = exists().where(DUE, outbox.c.channel.in_(channels), outbox.c.next_at <= now)
    return bool(conn.execute(select(found)).scalar())


@verb(Rank.CHANGE)
def take(tx: Tx, items: Sequence[Take]) -> Sequence[list[Parcel] | JobdeckError]:
    """For each sender the notifications that it has to send before its time is over."""
    return [_take(tx, item) for item in items]


def _take(tx: Tx, item: Take) -> list[Parcel]:
    full = [name for name, count in item.busy.items() if count >= limits.DELIVERY_PER_RECEIVER]
    query = (
        select(*_LOOKED_AT)
        .where(DUE, outbox.c.channel.in_(item.channels), outbox.c.next_at <= tx.now)
        .where(outbox.c.receiver.not_in(full))
        .order_by(outbox.c.next_at, outbox.c.id)
        .limit(_LOOKS)
    )
    rows = tx.conn.execute(tx.differences.unlocked_only(query, outbox)).all()
    rows = _without_spent(tx, rows)
    rows = _without_disabled(tx, rows)
    rows = _in_turn(rows, item)
    if not rows:
        return []
    lease = {"until": tx.now + item.lease_us}
    tx.conn.execute(_TAKE, [{"key": row.id, "was": row.tries, **lease} for row in rows])
    secrets = secrets_of(
        tx.conn, tx.now, {row.owner_id for row in rows if row.channel in (CALLBACK, WEBHOOK)}
    )
    bodies = dict(
        tx.conn.execute(
            select(outbox.c.id, outbox.c.body).where(outbox.c.id.in_([row.id for row in rows]))
        ).all()
    )
    return [
        Parcel(
            row.id,
            row.tries + 1,
            row.team_id,
            row.channel,
            row.receiver,
            row.endpoint,
            bodies[row.id],
            secrets.get(row.owner_id, ()),
        )
        for row in rows
    ]


# Without the bodies: many more are looked at than are taken, and a body may have 64 KiB.
_LOOKED_AT: Final = tuple(column for column in outbox.c if column.key != "body")
_TAKE: Final = (
    update(outbox)
    .where(outbox.c.id == bindparam("key"), outbox.c.tries == bindparam("was"))
    .values(state=DeliveryState.SENDING, tries=outbox.c.tries + 1, next_at=bindparam("until"))
)
_CLOSE: Final = (
    update(outbox)
    .where(outbox.c.id == bindparam("key"))
    .values(state=bindparam("ends"), last_error=bindparam("words"))
)


def _in_turn(rows: Sequence[Any], item: Take) -> list[Any]:
    """As many as are asked for, and no more of one receiver than it may have under way."""
    busy = Counter(item.busy)
    chosen: list[Any] = []
    for row in rows:
        if len(chosen) < item.limit and busy[row.receiver] < limits.DELIVERY_PER_RECEIVER:
            busy[row.receiver] += 1
            chosen.append(row)
    return chosen


def _without_spent(tx: Tx, rows: Sequence[Any]) -> list[Any]:
    """Close those whose last try nobody has told of."""
    spent = [row for row in rows if row.tries >= row.tries_max]
    _close(tx, spent, DeliveryState.FAILED, "the sender of the last try fell silent")
    return [row for row in rows if row.tries < row.tries_max]


def _without_disabled(tx: Tx, rows: Sequence[Any]) -> list[Any]:
    """Close those whose endpoint wants no more."""
    keys = {row.id: digest_id(row.owner_id.hex, row.endpoint) for row in rows}
    query = select(disabled_webhooks.c.id).where(disabled_webhooks.c.id.in_(set(keys.values())))
    disabled = set(tx.conn.execute(query).scalars()) if rows else set()
    _close(
        tx,
        [row for row in rows if keys[row.id] in disabled],
        DeliveryState.DISABLED,
        "the endpoint has answered 410 Gone earlier; see: jobdeck webhooks list",
    )
    return [row for row in rows if keys[row.id] not in disabled]


def _close(tx: Tx, rows: Sequence[Any], state: DeliveryState, words: str) -> None:
    if rows:
        tx.conn.execute(_CLOSE, [{"key": row.id, "ends": state, "words": words} for row in rows])
        tx.hint(Hint.CHANGE)


@verb(Rank.CHANGE)
def tell(tx: Tx, items: Sequence[Tried]) -> Sequence[bool | JobdeckError]:
    """Write down what became of tries; False where somebody else has taken the notification meanwhile."""
    query = select(outbox).where(outbox.c.id.in_([item.id for item in items]))
    rows = {row.id: row for row in tx.conn.execute(tx.differences.locked(query, by=outbox.c.id))}
    told = []
    for item in items:
        row = rows.pop(item.id, None)
        mine = row is not None and row.state == DeliveryState.SENDING and row.tries == item.tries
        told.append(mine)
        if mine:
            tx.conn.execute(update(outbox).where(outbox.c.id == item.id).values(_after(item, row, tx.now)))
            if item.fate is Fate.GONE:
                _disable(tx, row, item)
    if any(told):
        tx.hint(Hint.CHANGE)
    return told


def _after(item: Tried, row: Any, now: int) -> dict[str, Any]:
    values: dict[str, Any] = {"response_code": item.code, "last_error": item.error}
    if item.endpoint is not None:
        values["endpoint"] = item.endpoint
    if item.fate is Fate.DELIVERED:
        return values | {"state": DeliveryState.DELIVERED, "delivered_at": now}
    if item.fate is Fate.GONE:
        return values | {"state": DeliveryState.DISABLED}
    if item.fate is Fate.FAILED or row.tries >= row.tries_max:
        return values | {"state": DeliveryState.FAILED}
    return values | {"state": DeliveryState.PENDING, "next_at": now + item.wait_us}


def _disable(tx: Tx, row: Any, item: Tried) -> None:
    found = {
        "id": digest_id(row.owner_id.hex, row.endpoint),
        "team_id": row.team_id,
        "owner_id": row.owner_id,
        "url": row.endpoint,
        "disabled_at": tx.now,
        "reason": f"it answered {item.code or _GONE}",
    }
    tx.conn.execute(tx.differences.insert(disabled_webhooks).on_conflict_do_nothing(), [found])


class GiveBack(NamedTuple):
    """A sender that stops has taken this one and has not got an answer."""

    id: UUID
    tries: int


@verb(Rank.CHANGE)
def give_back(tx: Tx, items: Sequence[GiveBack]) -> Sequence[None]:
    """Others may send it at once. What is under way counts as a try: it may have arrived."""
    returned = update(outbox).where(
        outbox.c.id == bindparam("key"),
        outbox.c.tries == bindparam("was"),
        outbox.c.state == DeliveryState.SENDING,
    )
    values = {"state": DeliveryState.PENDING, "next_at": tx.now}
    tx.conn.execute(returned.values(values), [{"key": item.id, "was": item.tries} for item in items])
    return [None] * len(items)


@verb(Rank.CHANGE)
def abandon(tx: Tx, items: Sequence[tuple[str, ...]]) -> Sequence[int]:
    """Close what no worker has been able to send for days, seen from one that sends these channels; how many."""
    before = tx.now - limits.UNDELIVERABLE_AFTER * 1_000_000
    closed = (
        update(outbox)
        .where(DUE, outbox.c.channel.not_in(items[0]), outbox.c.next_at < before)
        .values(state=DeliveryState.FAILED, last_error="no worker is set up to send it")
    )
    return [tx.conn.execute(closed).rowcount, *[0] * (len(items) - 1)]


class Resend(NamedTuple):
    """Somebody wants a notification of the team to be tried now, whatever became of it."""

    team_id: UUID
    id: UUID


@verb(Rank.CHANGE)
def resend(tx: Tx, items: Sequence[Resend]) -> Sequence[UUID | JobdeckError]:
    """Try these again, with as many tries as a new one has, and under the id they had. NotFound, Conflict."""
    return [_resend(tx, item) for item in items]


def _resend(tx: Tx, item: Resend) -> UUID | JobdeckError:
    query = select(outbox).where(outbox.c.id == item.id, outbox.c.team_id == item.team_id)
    row = tx.conn.execute(tx.differences.locked(query, by=outbox.c.id)).one_or_none()
    shown = show_id("msg", item.id)
    if row is None:
        return NotFound(f"no delivery {shown} in this team; see: jobdeck deliveries list")
    if row.state == DeliveryState.SENDING and row.next_at > tx.now:
        return Conflict(f"{shown} is being sent right now")
    key = digest_id(row.owner_id.hex, row.endpoint)
    if tx.conn.execute(select(exists().where(disabled_webhooks.c.id == key))).scalar():
        return Conflict(
            f"its endpoint wants no more; enable it first: jobdeck webhooks enable {show_id('hook', key)}"
        )
    again = {
        "state": DeliveryState.PENDING,
        "next_at": tx.now,
        "tries_max": row.tries + limits.DELIVERY_TRIES,
        "delivered_at": None,
    }
    tx.conn.execute(update(outbox).where(outbox.c.id == item.id).values(again))
    tx.tell(item, shown, {"state": row.state, "tries": row.tries}, {"state": DeliveryState.PENDING})
    tx.hint(Hint.MAIL | Hint.CHANGE)
    return item.id
