"""Processes in which people act all the time, and which seal meanwhile: `actors URL TEAM PROCESSES ACTS`."""

from __future__ import annotations

import asyncio
import multiprocessing
import sys

from jobdeck.client import Client
from jobdeck.client.session import Session
from jobdeck.model import TeamScope
from jobdeck.store.audit.seals import seal
from jobdeck.store.database import Database
from jobdeck.store.scopes import find_project, find_team
from tests.databases import opened
from tests.store.clients import SPECS

PEOPLE = 8


async def act(url: str, slug: str, number: int, times: int) -> None:
    """Eight people enqueue runs one after another, beside one who seals until they are done."""
    async with opened(url) as database:
        team = await database.read(find_team, slug)
        assert team is not None
        project = await database.read(find_project, team.id, "main")
        sealing = asyncio.create_task(_seal(database)) if number else None
        clients = [
            Client(Session(database, TeamScope(team.id, slug), project, f"p{number}-{person}", SPECS.get))
            for person in range(PEOPLE)
        ]
        await asyncio.gather(*(_enqueue(client, times) for client in clients))
        if sealing is not None:
            sealing.cancel()
            await asyncio.wait({sealing})
            if not sealing.cancelled():
                sealing.result()


async def _enqueue(client: Client, times: int) -> None:
    for _ in range(times):
        await client.runs.enqueue("sync")


async def _seal(database: Database) -> None:
    while True:
        await database.write(seal, None)
        await asyncio.sleep(0)


def main(url: str, slug: str, processes: str, times: str) -> None:
    """Run them; fails where one of them does."""
    spawn = multiprocessing.get_context("spawn")
    started = [
        spawn.Process(target=_run, args=(url, slug, number, int(times))) for number in range(int(processes))
    ]
    for each in started:
        each.start()
    for each in started:
        each.join()
    sys.exit(max(each.exitcode or 0 for each in started))


def _run(url: str, slug: str, number: int, times: int) -> None:
    asyncio.run(act(url, slug, number, times))


if __name__ == "__main__":
    main(*sys.argv[1:])
