"""A pull queue between programs that are late, that guess, and that say things twice."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Sequence
from typing import Any

import pytest

from jobdeck.client import Client
from jobdeck.errors import NotFound, StaleLease
from jobdeck.ids import new_id
from jobdeck.pull import ClaimedWork, new_token
from tests.faults.case import Case
from tests.faults.ledger import Entry, Kind

QUEUE = "outside"
VISIBILITY = 2.0


async def test_r29_tokens_of_a_pull_queue(case: Case) -> None:
    """Only the current token of a run ends it: late, foreign, forged and second words change nothing.

    The runs of a program that is too slow come back by a worker that takes none of them itself, and go to another
    program; what that one says twice it is answered twice.
    """
    count = case.size.of(5, 200)
    async with case.client() as slow, case.client() as quick:
        await slow.queues.create(QUEUE, pull=True)
        ids = await case.enqueue(slow, count, options={"queue": QUEUE})
        case.workers.start()
        inside = await case.enqueue(slow)
        await case.until(lambda: len(case.effects()) == len(inside))
        late = await _claim_all(slow, count)
        assert await quick.queues.claim(QUEUE, count=1) == []
        await _refused(slow, late)
        await case.until(lambda: not case.history().leases)
        for work in late:
            await _stale(slow.queues.complete(work.run_id, work.token, "late"))
        taken = await _claim_all(quick, count, visibility=60.0)
        assert {work.run_id for work in taken} == set(ids)
        for work in late:
            await _stale(slow.queues.complete(work.run_id, work.token, "late"))
            await _stale(slow.queues.extend(work.run_id, work.token))
        await _refused(quick, taken)
        await _end_all(case, quick, taken)
    history = case.judge(faults=4 * count)
    ended = {row["id"]: (row["status"], row["result"], row["crash_count"]) for row in history.runs}
    assert {ended[run_id] for run_id in ids} == {("completed", '"done"', 1)}


async def _claim_all(client: Client, count: int, visibility: float = VISIBILITY) -> list[ClaimedWork]:
    found: list[ClaimedWork] = []
    while len(found) < count:
        wanted = min(count - len(found), 100)
        name = f"program:{os.getpid()}"
        some = await client.queues.claim(QUEUE, count=wanted, visibility=visibility, worker=name)
        assert some
        found += some
    return found


async def _refused(client: Client, works: Sequence[ClaimedWork]) -> None:
    """No token but its own ends a run, and none a run that is not there."""
    for work, other in zip(works, [*works[1:], works[0]], strict=True):
        for token in (other.token, new_token(), work.token[:-1], ""):
            await _stale(client.queues.complete(work.run_id, token))
            await _stale(client.queues.fail(work.run_id, token, "no"))
        with pytest.raises(NotFound) as caught:
            await client.queues.complete(new_id(), work.token)
        assert caught.value.exit_code == 3


async def _stale(act: Awaitable[Any]) -> None:
    with pytest.raises(StaleLease) as caught:
        await act
    assert caught.value.exit_code == 5


async def _end_all(case: Case, client: Client, works: Sequence[ClaimedWork]) -> None:
    for work in works:
        now = time.monotonic()
        # Each claim of these runs was one attempt more.
        case.ledger.write(
            Entry(
                Kind.EFFECT,
                pid=os.getpid(),
                key=work.params["key"],
                run=work.run_id.hex,
                attempt=work.attempt,
                fence=work.attempt,
                start=now,
                end=now,
            )
        )
        first = await client.queues.complete(work.run_id, work.token, "done")
        assert await client.queues.complete(work.run_id, work.token, "done") == first
        await _stale(client.queues.complete(work.run_id, work.token, "other"))
        await _stale(client.queues.fail(work.run_id, work.token, "no"))
