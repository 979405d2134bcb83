"""What the demo asks its worker to do."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from jobdeck.client import Client

TABLE: Final = "products"


def sync_params(api: str) -> Mapping[str, Any]:
    """The main job: the catalogue of the demo's API into a table of the project's data file."""
    return {
        "url": f"{api}/products",
        "records": "data",
        "pagination": {"kind": "page", "param": "page", "start": 1},
        "key": ["sku"],
        "table": TABLE,
        "mode": "upsert",
        "total": "total",
    }


async def fill_the_deck(client: Client, api: str) -> None:
    """Runs of every kind beside the main one, so that the console has something to show."""
    trigger = client.runs.trigger
    await trigger("http", {"url": f"{api}/products?page=1", "method": "GET"}, name="Ask the API for page 1")
    await trigger("http", {"url": f"{api}/nowhere", "method": "GET"}, name="Ask for a page that is not there")
    await trigger("sleep", {"seconds": 90, "steps": 90}, name="A long walk")
    await trigger("sleep", {"seconds": 30, "steps": 60}, name="A short walk", priority=3)
    await trigger("sleep", {"seconds": 4, "fail": True}, name="Trips at the end", max_attempts=3)
    await trigger("noop", {}, name="Tomorrow's run", delay=timedelta(days=1))
    await trigger("noop", {}, name="Waits for a worker of its queue", queue="night")
    await trigger(
        "command",
        {
            "shell": "for n in 1 2 3 4 5 6 7 8 9 10; do echo ::progress $n/10 step $n; echo step $n done; sleep 1; done"
        },
        name="A shell script with ten steps",
    )
