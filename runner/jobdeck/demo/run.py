"""The demo from beginning to end: with a terminal the console, without one a single sync with plain lines."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from jobdeck.bootstrap import make_scope, open_client, upgrade_database
from jobdeck.client import Client
from jobdeck.demo import backstage
from jobdeck.demo.scenario import TABLE, fill_the_deck, sync_params
from jobdeck.errors import DatabaseError, NotCancellable
from jobdeck.ids import show_id
from jobdeck.model import Run, RunFilter
from jobdeck.plugins import load_console
from jobdeck.settings import Settings, load_settings
from jobdeck.states import Status
from jobdeck.text import clean

TEAM: Final = "demo"
PROJECT: Final = "shop"
_ACTIVE_SYNCS: Final = RunFilter(statuses=frozenset({Status.PENDING, Status.RUNNING}), job_type="http_sync")
# `--attach` ends with the same code where the run did not complete.
_NOT_COMPLETED: Final = 10


def main(config: Path | None = None) -> int:
    """Run the demo; the exit code. Raises JobdeckError."""
    settings = demo_settings(load_settings(config))
    with backstage.api_server() as api:
        asyncio.run(_prepare(settings))
        _say(settings, api)
        log = settings.make_data_dir() / "demo-worker.log"
        if sys.stdin.isatty() and sys.stdout.isatty():
            with backstage.worker(settings, "--queue", "default", log=log):
                asyncio.run(_fill(settings, api))
                return load_console()(settings)
        with backstage.worker(settings, log=log):
            return asyncio.run(_sync_once(settings, api))


def demo_settings(settings: Settings) -> Settings:
    """The demo's own team, project and folder; the database is the configured one, else a file in that folder."""
    return load_settings(
        settings.config_file,
        {
            "database_url": settings.database_url,
            "data_dir": settings.resolved_data_dir / "demo",
            "team": TEAM,
            "project": PROJECT,
            "http": {"allow": ["127.0.0.1/32"]},
            "command": {"enabled": True},
        },
    )


async def _prepare(settings: Settings) -> None:
    """The demo's database upgrades itself, and has the demo's team and project."""
    status = await upgrade_database(settings)
    if not status.ok:
        raise DatabaseError(f"the demo's database has schema {status.current}, not {status.head}")
    await make_scope(settings)


def _say(settings: Settings, api: str) -> None:
    print(f"database  {settings.shown_database_url}")
    print(f"source    {api}/products?page=1  (rate-limited, now and then answers 429 or 500)")
    print(f"target    {settings.project_data_file(TEAM, PROJECT)}  table {TABLE}", flush=True)


async def _fill(settings: Settings, api: str) -> None:
    async with open_client(settings) as client:
        await _trigger_sync(client, api)
        await fill_the_deck(client, api)


async def _trigger_sync(client: Client, api: str) -> Run:
    """A new sync; one that an earlier demo left behind reads from an API that is gone, so it is ended first."""
    while left := (await client.runs.find(_ACTIVE_SYNCS)).runs:
        for run in left:
            with suppress(NotCancellable):
                await client.runs.cancel(run.id, reason="the demo was started again")
        await client.changed(1.0)
    return await client.runs.trigger("http_sync", sync_params(api), name="Sync the products")


async def _sync_once(settings: Settings, api: str) -> int:
    async with open_client(settings) as client:
        run = await _trigger_sync(client, api)
        print(f"run       {show_id('run', run.id)}", flush=True)
        run = await _follow(client, run)
    if run.status is not Status.COMPLETED:
        print(f"{run.status}: {clean(run.error or '')}", file=sys.stderr)
        return _NOT_COMPLETED
    result = run.result
    print(
        f"completed in {run.duration.total_seconds() if run.duration else 0:.1f} s: {result['synced']} synced, "
        f"{result['skipped']} skipped, {result['failed']} failed of {result['total']} in {result['pages']} pages"
    )
    return 0


async def _follow(client: Client, run: Run) -> Run:
    shown = ""
    while run.finished_at is None:
        await client.changed(1.0)
        run = await client.runs.show(run.id)
        progress = run.progress
        line = f"{run.label:<10}{progress.processed:>6}/{progress.total or '?'}  {clean(progress.message)}"
        if line != shown:
            print(line, flush=True)
            shown = line
    return run
