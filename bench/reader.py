"""A process that reads lists and counts by `jobdeck.client`: `python -m bench.reader CONFIG CALLS`.

Answers in JSON with the milliseconds of every call. The reads take turns, as those of a console do.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from sqlalchemy import select

from bench.history import TYPES
from jobdeck.bootstrap import open_client
from jobdeck.client import Client
from jobdeck.clock import from_us
from jobdeck.ids import show_id
from jobdeck.model import RunFilter, RunKey
from jobdeck.settings import load_settings
from jobdeck.states import GROUPS
from jobdeck.store.schema import runs

Read = Callable[[], Awaitable[object]]
_PLACES = 200
# Of the shown ids of a million runs, two or three end in the same six characters.
_END = 8
# So many calls go before those that count, for caches and prepared statements.
_WARM_UP = 2
# A read that is slow is not made again once its calls have taken so much together: what it takes is known by then.
_MOST_MS = 4_000


def reads(client: Client, places: list[RunKey]) -> dict[str, Read]:
    """What a console and the command line ask for, by name; each call with another value."""

    def page(*statuses: str, **more: str) -> Read:
        return lambda: client.runs.list(RunFilter(statuses=frozenset(statuses), **more))  # type: ignore[arg-type]

    def typed_page(*statuses: str) -> Read:
        return lambda: page(*statuses, job_type=f"history_{random.randrange(TYPES)}")()

    def after(chosen: RunFilter) -> Read:
        return lambda: client.runs.page(chosen, after=random.choice(places), limit=50)

    return {
        "list, first page": page(),
        "list, deep page": after(RunFilter()),
        "list, oldest page": lambda: client.runs.page(RunFilter(), last=True, limit=50),
        "filter status, common": page("completed"),
        "filter status, one in a thousand": page("dead"),
        "filter status, none has it": page("running"),
        "filter status, deep page": after(RunFilter(statuses=frozenset({"completed"}))),
        "filter label retrying": page("retrying"),
        "filter group failed": page(*GROUPS["failed"]),
        "filter type": typed_page(),
        "filter status and type": typed_page("failed"),
        "filter status and type, rare": typed_page("dead"),
        "filter queue, one in a thousand": page(queue="nightly"),
        "filter category, one in a thousand": page(category="nightly"),
        "filter text, found nowhere": page(text="needle"),
        "counts": client.runs.counts,
        "show one run": lambda: client.runs.show(random.choice(places).id),
        "find by the end of an id": lambda: client.runs.resolve(
            show_id("run", random.choice(places).id)[-_END:]
        ),
    }


async def measure(config: Path, calls: int) -> dict[str, list[float]]:
    """Milliseconds of each call of each read."""
    async with open_client(load_settings(config)) as client:
        places = [place for _ in range(_PLACES // 50) for place in await _somewhere(client)]
        asked = reads(client, places)
        found: dict[str, list[float]] = {name: [] for name in asked}
        for number in range(-_WARM_UP, calls):
            for name, read in asked.items():
                if sum(found[name]) > _MOST_MS:
                    continue
                started = time.perf_counter()
                await read()
                if number >= 0:
                    found[name].append((time.perf_counter() - started) * 1e3)
        return found


async def _somewhere(client: Client) -> list[RunKey]:
    """Runs of the team at some time of the past year."""
    database, team = client._session.database, client.scope.team_id
    span = 365 * 86_400 * 1_000_000
    before = await client.server_time_us() - random.randrange(span // 50, span)
    query = select(runs.c.created_at, runs.c.id).where(runs.c.team_id == team, runs.c.created_at < before)
    found = await database.read(
        lambda conn: conn.execute(query.order_by(runs.c.created_at.desc()).limit(50)).all()
    )
    return [RunKey(from_us(created_at), run_id) for created_at, run_id in found]


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure(Path(sys.argv[1]), int(sys.argv[2])))))
