"""Batches with something wrong in them: jobs are made all or none, runs each for itself, and the wrong one is named."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from sqlalchemy import func, select

from jobdeck.errors import Conflict, JobdeckError, ValidationError
from jobdeck.limits import DEFINITION_BATCH
from jobdeck.model import BatchItem, JobSpec
from jobdeck.store.schema import job_versions, jobs, schedules
from tests.faults.case import LONG_LEASE, Case
from tests.faults.cli import said

BAD_AT = 57


def spec(slug: str, **facts: Any) -> JobSpec:
    return JobSpec(slug, {"type": "work", "params": {"key": slug}, "schedule": {"cron": "0 3 * * *"}} | facts)


def batch(size: int = DEFINITION_BATCH, **wrong: Any) -> list[JobSpec]:
    """Jobs of which the 57th is wrong, where anything is."""
    specs = [spec(f"job{number}") for number in range(1, size + 1)]
    if wrong:
        specs[BAD_AT - 1] = spec(wrong.pop("slug", f"job{BAD_AT}"), **wrong)
    return specs


WRONG: dict[str, tuple[list[JobSpec], type[JobdeckError], str]] = {
    "params": (batch(params={"seconds": 1}), ValidationError, "job 57 of the batch: params of work: key: "),
    "cron": (
        batch(schedule={"cron": "61 * * * *"}),
        ValidationError,
        "job 57 of the batch: schedule: cron: ",
    ),
    "field": (batch(colour="red"), ValidationError, "job 57 of the batch: colour: "),
    "slug": (batch(slug="Not A Slug"), ValidationError, "job 57 of the batch: "),
    "type": (batch(type="unheard_of"), ValidationError, "job 57 of the batch: "),
    "twice": (batch(slug="job3"), Conflict, "job 57 of the batch: there is already a job 'job3'"),
    "101": (batch(DEFINITION_BATCH + 1), ValidationError, "1 to 100 jobs, not 101"),
    "none": ([], ValidationError, "1 to 100 jobs, not 0"),
}


async def test_r26_batches_of_jobs(case: Case) -> None:
    """Item 57 of 100 is wrong, an item is there twice, there are 101: nothing is made, and the item is named."""
    async with case.client() as client:
        for name, (specs, kind, words) in WRONG.items():
            with pytest.raises(kind) as caught:
                await client.jobs.create_many(specs)
            assert words in str(caught.value), name
            assert stored(case) == (0, 0, 0), name
        assert len(await client.jobs.create_many(batch())) == DEFINITION_BATCH
        assert stored(case) == (DEFINITION_BATCH,) * 3
        with pytest.raises(Conflict, match="job 2 of the batch: there is already a job 'job9'"):
            await client.jobs.create_many([spec("other"), spec("job9")])
        assert stored(case) == (DEFINITION_BATCH,) * 3
    file = case.folder / "batch.ndjson"
    specs, _, words = WRONG["cron"]
    lines = [{"slug": f"again-{each.slug}", **each.definition} for each in specs]
    file.write_text("\n".join(map(json.dumps, lines)))
    code, _, told = await said(case, "jobs", "create", "--batch", str(file))
    assert (code, words in told, told.count("\n")) == (2, True, 1)
    assert stored(case) == (DEFINITION_BATCH,) * 3
    case.judge(faults=len(WRONG), note="jobs: all or none")


def stored(case: Case) -> tuple[int, ...]:
    """How many jobs, versions and schedules there are."""
    with case.connection() as conn:
        tables = (jobs, job_versions, schedules)
        return tuple(conn.execute(select(func.count()).select_from(table)).scalar_one() for table in tables)


async def test_r26_batches_of_runs(case: Case) -> None:
    """Of 101 runs one is wrong and three have the key of another: 97 are made, each line gets its own answer."""
    lines: list[dict[str, Any]] = [{"params": {"key": f"R26-{number}"}} for number in range(101)]
    lines[BAD_AT - 1] = {"params": {"seconds": 1}}
    for number in (10, 20, 30, 40):
        lines[number] = {"params": {"key": "R26-same"}, "idempotency_key": "same"}
    file = case.folder / "runs.ndjson"
    file.write_text("\n".join(map(json.dumps, lines)))
    code, out, _ = await said(case, "trigger", "work", "--batch", str(file), "--json")
    told = json.loads(out)
    assert code == 2
    assert Counter(row["status"] for row in told["results"]) == {
        "created": 97,
        "deduplicated": 3,
        "failed": 1,
    }
    assert [row["index"] for row in told["results"]] == list(range(101))
    wrong = told["results"][BAD_AT - 1]
    assert (wrong["status"], wrong["error"]["code"]) == ("failed", "invalid")
    assert len({told["results"][number]["id"] for number in (10, 20, 30, 40)}) == 1
    assert len(case.history().runs) == 97
    async with case.client() as client:
        with pytest.raises(ValidationError, match="at most 10,000 runs at a time, not 10,001"):
            await client.runs.trigger_batch([BatchItem("work", {"key": "x"}, {})] * 10_001)
        case.workers.start(settings=LONG_LEASE)
        await case.settled()
    history = case.judge(faults=5, note="runs: each for itself")
    assert {row["status"] for row in history.runs} == {"completed"}
    assert len(history.runs) == 97
