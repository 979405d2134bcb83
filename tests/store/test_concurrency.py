"""Many claimers at once: nothing runs twice, nothing fails, nobody starves."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from jobdeck.states import Status
from jobdeck.store.schema import attempts, leases, run_events, runs
from tests.store.claimer import work
from tests.store.deck import Deck

ROOT = Path(__file__).parents[2]
SECONDS = 90.0


async def _assert_each_ran_once(deck: Deck, ids: list[Any]) -> None:
    """Every run completed with one attempt, fence 1 and two events, and nothing is held."""
    stored = await deck.rows(runs)
    assert {row["id"] for row in stored} == set(ids)
    assert {(row["status"], row["fence"], row["attempt"]) for row in stored} == {(Status.COMPLETED, 1, 1)}
    assert Counter(row["run_id"] for row in await deck.rows(attempts)) == dict.fromkeys(ids, 1)
    assert Counter(row["run_id"] for row in await deck.rows(run_events)) == dict.fromkeys(ids, 2)
    assert await deck.rows(leases) == []


async def test_eight_claimers_in_one_process(deck: Deck) -> None:
    """Eight workers of one process share 1,000 runs: each run once, no error."""
    ids = await deck.enqueue_many(1_000)
    errors: list[str] = []
    async with asyncio.timeout(SECONDS):
        done = await asyncio.gather(*(work(deck.database, errors) for _ in range(8)))
    assert errors == []
    assert sorted(run.id for each in done for run in each) == sorted(ids)
    await _assert_each_ran_once(deck, ids)


async def test_four_processes_on_one_database(deck: Deck, database_url: str, database_kind: str) -> None:
    """Four processes share 2,000 runs: each run once, no error, and on SQLite each process gets 15 % or more."""
    ids = await deck.enqueue_many(2_000)
    reports = await asyncio.to_thread(_run_processes, database_url, 4)
    done = [run_id for report in reports for run_id in report["ids"]]
    shares = [len(report["ids"]) for report in reports]
    seconds = [round(report["seconds"], 2) for report in reports]
    figures = f"shares {shares}, seconds {seconds}"
    assert [report["errors"] for report in reports] == [[]] * 4, figures
    assert sorted(done) == sorted(str(run_id) for run_id in ids), figures
    if database_kind == "sqlite":
        assert min(shares) >= 0.15 * len(ids), figures
    await _assert_each_ran_once(deck, ids)


def _run_processes(url: str, count: int) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "tests.store.claimer", url, str(count)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT, timeout=SECONDS)
    reports: list[dict[str, Any]] = json.loads(done.stdout)
    return reports
