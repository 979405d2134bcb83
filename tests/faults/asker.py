"""A process that asks for the same run again and again, all at once; several of them begin at the same moment.

`python -m tests.faults.asker CONFIG GATE COUNT OPTIONS`: it says `ready`, waits until it can lock the file GATE, which
the case holds until all are there, and then says each answer on a line of JSON: `{"id", "status"}` of a run it was
given, `{"code", "existing_run_id"}` where it was refused.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import sys
from pathlib import Path
from typing import Any

from jobdeck.bootstrap import open_client
from jobdeck.client import Client
from jobdeck.errors import JobdeckError
from jobdeck.ids import show_id
from jobdeck.settings import load_settings


async def _ask(client: Client, job_type: str, options: dict[str, Any]) -> dict[str, Any]:
    try:
        run = await client.runs.trigger(job_type, {"key": "R27"}, **options)
    except JobdeckError as error:
        return error.details()
    return {"id": show_id("run", run.id), "status": "deduplicated" if run.deduplicated else "created"}


def _wait_for(gate: Path) -> None:
    with gate.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)


async def ask(config: Path, gate: Path, count: int, asked: dict[str, Any]) -> None:
    """See the module."""
    job_type = asked.pop("type")
    async with open_client(load_settings(config)) as client:
        # So that nobody has the first connection before it yet.
        await client.runs.counts()
        print("ready", flush=True)
        await asyncio.to_thread(_wait_for, gate)
        answers = await asyncio.gather(*(_ask(client, job_type, asked) for _ in range(count)))
    for answer in answers:
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _, config, gate, count, options = sys.argv
    asyncio.run(ask(Path(config), Path(gate), int(count), json.loads(options)))
