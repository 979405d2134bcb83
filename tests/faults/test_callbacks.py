"""Receivers that fail after their work, senders that die after theirs, and what a signature is worth."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from sqlalchemy import select, update
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from jobdeck import limits
from jobdeck.client import Client
from jobdeck.delivery.signature import new_secret, signed_headers
from jobdeck.store.schema import outbox
from tests.faults.case import LONG_LEASE, Case
from tests.faults.invariants import Breach
from tests.faults.killpoints import EXIT_CODE, TELLING, KillPoint
from tests.faults.receiver import Received, receiving
from tests.faults.workers import merged

LOOPBACK = {"http": {"allow": ["127.0.0.1/32"]}}
SETTINGS = merged(LONG_LEASE, LOOPBACK)
# Runs with a callback; senders that are killed.
SHORT, WHOLE = (12, 2), (200, 10)


async def test_r20_receiver_fails_and_senders_die(case: Case) -> None:
    """Receivers work and then time out or break off, senders die before they write it down: one id and body per end.

    No notification has more tries than it may have, each arrives, and no run is touched by any of it.
    """
    runs, kills = case.size.of(SHORT, WHOLE)
    release = threading.Event()
    turn = count()

    def fails_first(got: Received) -> int | None:
        if sum(each.message_id == got.message_id for each in receiver.received) > 1:
            return 200
        # One hangs until the sender gives up, some break off, some say that they cannot.
        number = next(turn)
        if number == 0:
            release.wait(60)
        return 503 if number % 3 == 1 else None if number % 3 == 2 else 200

    with receiving() as receiver:
        receiver.answer = fails_first
        async with case.client(LOOPBACK) as client:
            await case.enqueue(client, runs, options={"callback_url": receiver.url})
            for number in range(kills):
                dying = case.workers.start(settings=SETTINGS, kill=KillPoint(TELLING, nth=1 + number % 2))
                await asyncio.to_thread(dying.wait)
                assert dying.wait() == EXIT_CODE
                _let_all_try_again(case)
            case.workers.start(settings=SETTINGS)
            await case.settled()
            await case.until(lambda: _let_all_try_again(case) == 0)
            release.set()
        history = case.judge(
            more=list(_told(case, receiver.received)), note=f"{len(receiver.received)} requests"
        )
    assert {row["status"] for row in history.runs} == {"completed"}
    # A killed worker had ended its runs; what it had sent and not written down was sent again.
    assert all(row["crash_count"] == 0 or row["status"] == "completed" for row in history.runs)
    assert len(receiver.received) > runs


def _let_all_try_again(case: Case) -> int:
    """As if the waits, and the times of dead senders, were over; how many are not delivered."""
    with case.connection() as conn:
        waiting = outbox.c.state.in_(["pending", "sending"])
        rows = conn.execute(select(outbox.c.state).where(waiting)).all()
        if not case.workers.alive or all(row.state == "pending" for row in rows):
            conn.execute(update(outbox).where(waiting).values(next_at=0))
    return len(rows)


def _told(case: Case, received: Sequence[Received]) -> Any:
    """I8: one id for each end, at least one delivery, the same body each time, no more tries than allowed."""
    with case.connection() as conn:
        rows = conn.execute(select(outbox)).all()
        by_run = {row.run_id: row for row in rows}
    bodies: dict[str, set[bytes]] = defaultdict(set)
    times: dict[str, int] = defaultdict(int)
    for got in received:
        bodies[got.message_id].add(got.body)
        times[got.message_id] += 1
    if len(by_run) != len(rows) or len(rows) != len(case.history().runs):
        yield Breach("I8", "-", f"{len(rows)} notifications of {len(case.history().runs)} ends")
    if len(bodies) != len(rows):
        yield Breach("I8", "-", f"{len(bodies)} ids arrived of {len(rows)}")
    for message_id, said in bodies.items():
        if len(said) > 1:
            yield Breach("I8", message_id, "arrived with different bodies")
        if times[message_id] > limits.DELIVERY_TRIES:
            yield Breach("I8", message_id, f"arrived {times[message_id]} times")
    for row in rows:
        if row.state != "delivered":
            yield Breach("I8", row.run_id.hex, f"{row.state}: {row.last_error}")


async def test_s04_signatures_hold(case: Case) -> None:
    """The reference library takes what was sent, under the new secret and the old one, and nothing that was changed.

    Not a body that was written anew, not one with a blank more, not another id or time, not one that is old.
    """
    with receiving() as receiver:
        async with case.client(LOOPBACK) as client:
            worker = case.workers.start(settings=SETTINGS)
            first = (await client.webhooks.rotate()).secret
            got = await _one(case, client, receiver.received, receiver.url)
            _verify(got, first)
            second = (await client.webhooks.rotate()).secret
            both = await _one(case, client, receiver.received, receiver.url)
            for secret in (first, second):
                _verify(both, secret)
            assert len(both.headers["webhook-signature"].split(" ")) == 2
            third = (await client.webhooks.rotate(drop_old=True)).secret
            last = await _one(case, client, receiver.received, receiver.url)
            _verify(last, third)
            for secret in (first, second):
                _refused(last, secret)
            worker.terminate()
            await asyncio.to_thread(worker.wait)
    for body in _changed(last.body):
        _refused(last, third, body=body)
    for name, value in _replayed(last):
        _refused(last, third, **{name: value})
    case.judge(faults=0, note="3 secrets")


async def _one(case: Case, client: Client, received: list[Received], url: str) -> Received:
    """The notification of one more run."""
    before = len(received)
    await case.enqueue(client, options={"callback_url": url})
    await case.until(lambda: len(received) > before)
    return received[before]


def _verify(got: Received, secret: str, *, body: bytes | None = None, **headers: str) -> None:
    changed = {name.replace("_", "-"): value for name, value in headers.items()}
    Webhook(secret).verify(got.body if body is None else body, got.headers | changed)


def _refused(got: Received, secret: str, **changes: Any) -> None:
    with pytest.raises(WebhookVerificationError):
        _verify(got, secret, **changes)


def _changed(body: bytes) -> list[bytes]:
    """Bodies that say the same, or almost."""
    said = json.loads(body)
    again = json.dumps(said).encode()
    assert json.loads(again) == said
    return [again, body + b" ", body.replace(b"completed", b"failed", 1), b""]


def _replayed(got: Received) -> list[tuple[str, str]]:
    """Headers of somebody who has seen a request and sends it again later, or as another one."""
    old = datetime.now(UTC) - timedelta(minutes=6)
    return [
        ("webhook_timestamp", str(int(old.timestamp()))),
        ("webhook_timestamp", str(int(got.headers["webhook-timestamp"]) + 1)),
        ("webhook_id", got.message_id[:-1] + ("0" if got.message_id[-1] != "0" else "1")),
        ("webhook_signature", got.headers["webhook-signature"].replace("v1,", "v1a,")),
    ]


def test_s04_an_old_request_is_refused() -> None:
    """Sent again to the byte, signature and all, once its time is over: the library refuses it by its timestamp."""
    secret, body = new_secret(), b'{"type":"run.completed"}'
    now = int(datetime.now(UTC).timestamp())
    for age, taken in ((0, True), (240, True), (360, False), (-360, False)):
        got = Received(signed_headers([secret], "msg_1", now - age, body), body)
        if taken:
            _verify(got, secret)
        else:
            _refused(got, secret)
