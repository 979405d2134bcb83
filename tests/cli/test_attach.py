"""Staying with a run: Ctrl-C asks, an outcome is an exit code."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from jobdeck.cli.attach import attach_in_foreground
from jobdeck.ids import new_id
from jobdeck.model import CancelEffect, CancelReply, LogEntry, Progress, Run
from jobdeck.states import Status

NOT_COMPLETED, DETACHED = 10, 130
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def run_with(status: Status, **changes: Any) -> Run:
    """A run in some status."""
    facts: dict[str, Any] = {
        "id": RUN, "team_id": RUN, "team": "t", "project_id": None, "project": None, "job_type": "noop",
        "name": "n", "category": "c", "status": status, "label": status, "queue": "default", "priority": 5,
        "progress": Progress(), "attempt": 1, "max_attempts": 3, "failures": 0, "crash_count": 0,
        "timeout_s": 0.0, "trigger_type": "immediate", "triggered_by": "manual:a", "created_at": NOW,
        "due_at": NOW, "started_at": NOW, "finished_at": None, "heartbeat_at": None,
        "cancel_requested_at": None, "cancel_requested_by": None, "cancel_reason": None, "failure_kind": None,
        "error": None, "worker_id": None, "parent_run_id": None, "notify": False, "revision": 1,
    }  # fmt: skip
    return Run(**facts | changes)


RUN = new_id()


class FakeRuns:
    """Answers with what the test has put there."""

    def __init__(self) -> None:
        self.now = run_with(Status.RUNNING)
        self.lines: list[LogEntry] = []
        self.cancelled: list[str | None] = []

    async def show(self, _run_id: UUID) -> Run:
        return self.now

    async def logs(self, _run_id: UUID, *, after: int = 0, limit: int = 1_000) -> list[LogEntry]:
        return [line for line in self.lines if line.id > after][:limit]

    async def cancel(self, run_id: UUID, *, reason: str | None = None) -> CancelReply:
        self.cancelled.append(reason)
        return CancelReply(run_id, Status.RUNNING, False, CancelEffect.REQUESTED)


class FakeClient:
    """Runs `steps` one after the other, each when the follower waits for a change."""

    def __init__(self, *steps: Callable[[FakeRuns], None]) -> None:
        self.runs = FakeRuns()
        self._steps = list(steps)

    async def changed(self, timeout: float) -> bool:
        if not self._steps:
            await asyncio.Event().wait()
        self._steps.pop(0)(self.runs)
        # A signal is handed to the loop at its next turns.
        for _ in range(5):
            await asyncio.sleep(0)
        return True


def ends(status: Status, **changes: Any) -> Callable[[FakeRuns], None]:
    """A step: the run ends."""

    def step(runs: FakeRuns) -> None:
        runs.now = run_with(status, finished_at=NOW, **changes)

    return step


def interrupts(_runs: FakeRuns) -> None:
    """A step: Ctrl-C."""
    os.kill(os.getpid(), signal.SIGINT)


async def attached(client: Any) -> int:
    """Attach; the exit code."""
    following: Awaitable[int] = attach_in_foreground(client, client.runs.now, as_json=False)
    return await asyncio.wait_for(following, 20)


async def test_the_outcome_is_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    """0 for completed with the result on stdout; 10 for anything else with the error on stderr."""
    assert await attached(FakeClient(ends(Status.COMPLETED, result={"synced": 3}))) == 0
    assert '"synced": 3' in capsys.readouterr().out
    assert await attached(FakeClient(ends(Status.DEAD, error="no \x1b[31mluck"))) == NOT_COMPLETED
    out, err = capsys.readouterr()
    assert (out, "\x1b" in err, "dead: no" in err) == ("", False, True)


async def test_the_last_lines_of_the_log_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """Lines stored with the outcome itself still reach the terminal."""

    def last_words(runs: FakeRuns) -> None:
        runs.lines = [LogEntry(1, NOW, "info", "the last word", 1, {})]
        ends(Status.COMPLETED)(runs)

    assert await attached(FakeClient(last_words)) == 0
    assert "the last word" in capsys.readouterr().err


async def test_an_interrupt_without_a_terminal_cancels_and_stays() -> None:
    """Ctrl-C in a pipeline: the run is asked to stop, and the command waits for how it ends."""
    client = FakeClient(interrupts, ends(Status.CANCELLED))
    assert await attached(client) == NOT_COMPLETED
    assert client.runs.cancelled == ["interrupted at the terminal"]


async def test_a_second_interrupt_detaches() -> None:
    """Ctrl-C twice: the run goes on without anybody watching."""
    client = FakeClient(interrupts, interrupts)
    assert await attached(client) == DETACHED
    assert len(client.runs.cancelled) == 1
