"""`isolation="process"` through the whole engine: a handler whose process dies harms nothing but its attempt."""

from __future__ import annotations

import os
from uuid import UUID

import pytest

from jobdeck.states import Status
from tests.engine import isolated_handlers as handlers
from tests.engine.bench import Bench, outcomes

ALL = (
    handlers.isolated, handlers.isolated_fails, handlers.isolated_killed, handlers.isolated_exits,
    handlers.isolated_policed, handlers.isolated_deaf, handlers.isolated_leaks, handlers.isolated_hoards,
)  # fmt: skip


async def test_a_handler_in_a_process_of_its_own(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Result, progress, log, errors and deaths arrive; a death is an error of the attempt and no crash of a worker."""
    monkeypatch.setenv("JOBDECK_SECRET_TOKEN", "open-sesame")
    ids = {spec.job_type: await bench.trigger(spec) for spec in ALL[:5]}
    leaks = await bench.trigger(handlers.isolated_leaks, {"token": "secret://token"})
    hoards = await bench.trigger(handlers.isolated_hoards)
    async with bench.working(*ALL, concurrency=3):
        ended = {name: await bench.ended(run_id) for name, run_id in ids.items()}
        leaked, hoarded = await bench.ended(leaks), await bench.ended(hoards)
    done = ended["isolated"]
    assert done.status is Status.COMPLETED
    assert done.result.pop("pid") != os.getpid()
    assert done.result == {"attempt": 1, "resume": None}
    assert (done.progress.processed, done.progress.total, done.progress.message) == (3, 4, "three")
    assert [entry.message for entry in await bench.logs(done.id)] == ["inside"]
    failed = ended["isolated_fails"]
    assert (failed.status, failed.failure_kind, failed.error) == (Status.FAILED, "error", "ValueError: boom")
    assert "in isolated_fails" in (failed.traceback or "")
    policed = ended["isolated_policed"]
    assert (policed.status, policed.failures, policed.error) == (Status.FAILED, 1, "ValueError: no use")
    for name, words in (("isolated_killed", "SIGKILL"), ("isolated_exits", "7: no more")):
        died = ended[name]
        assert (died.status, died.failure_kind, died.crash_count) == (Status.FAILED, "error", 0)
        assert "the child process ended without an outcome" in (died.error or "")
        assert words in (died.error or "")
        assert outcomes(died) == ["error"]
    assert leaked.result == "token ********"
    assert [entry.message for entry in await bench.logs(leaks)] == ["using ********", "printed ********"]
    assert (hoarded.status, outcomes(hoarded)) == (Status.FAILED, ["error"])
    assert (hoarded.error or "").startswith("the result cannot be stored: result has 300,002 bytes")


async def test_a_process_that_ignores_the_cancel_is_killed(bench: Bench) -> None:
    """SIGTERM, then SIGKILL; it costs its attempt alone: the worker is not stuck and works on."""
    run_id = await bench.trigger(handlers.isolated_deaf)
    async with bench.working(*ALL, concurrency=1) as worker:
        await bench.eventually(lambda: _said(bench, run_id))
        await bench.client.runs.cancel(run_id)
        done = await bench.ended(run_id)
        assert (done.status, done.failure_kind) == (Status.CANCELLED, "abandoned")
        assert (await bench.ended(await bench.trigger(handlers.isolated))).status is Status.COMPLETED
        assert not worker.slots.stuck


async def _said(bench: Bench, run_id: UUID) -> bool:
    return bool(await bench.logs(run_id))
