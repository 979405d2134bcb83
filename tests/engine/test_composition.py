"""The worker as the composition root makes it from settings: plugins, child runs, settings of handlers, signals."""

from __future__ import annotations

import asyncio
import os
import signal
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

from jobdeck.bootstrap import make_scope, open_client, run_worker, worker_plugins
from jobdeck.engine.worker import Worker, WorkerEnd
from jobdeck.errors import ConfigError
from jobdeck.model import Run
from jobdeck.plugins import Plugins
from jobdeck.settings import Settings
from jobdeck.settings.model import RunnerSettings
from jobdeck.states import Status
from tests.engine.gate import PATIENCE


@pytest.fixture
async def settings(database_url: str, tmp_path: Path) -> Settings:
    """Settings of a crew with one module of handlers."""
    made = Settings(
        database_url=database_url,
        data_dir=tmp_path / "data",
        team="crew",
        project="moon",
        actor="ann",
        handlers=["tests.engine.family_handlers"],
        plugin={"family_reader": {"greeting": "hello"}},
    )
    await make_scope(made)
    return made


async def test_a_handler_makes_child_runs(settings: Settings) -> None:
    """Children belong to the parent's team and project, name it, take options, and are refused as by hand."""
    async with open_client(settings) as client:
        parent = await client.runs.trigger("family_parent")
        threaded = await client.runs.trigger("family_parent_in_thread")
        assert await run_worker(settings, drain=True) is WorkerEnd.DRAINED
        result = (await client.runs.show(parent.id)).result
        assert result["refused"] == ["invalid", "unknown_job_type"]
        children = [await client.runs.show(UUID(run_id)) for run_id in result["made"]]
        assert [child.result for child in children] == [4, 9, None]
        assert children[2].label == "scheduled"
        assert children[2].name == "late one"
        assert children[2].due_at - children[2].created_at == timedelta(hours=1)
        for child in children:
            assert_child_of(child, parent)
        assert [child.priority for child in children] == [1, 1, 5]
        answer = (await client.runs.show(threaded.id)).result
        assert_child_of(await client.runs.show(UUID(answer)), threaded)


async def test_a_child_is_taken_by_the_commit_that_stores_it(settings: Settings) -> None:
    """Where the worker that runs the parent has time and a slot: both bear the time of one transaction."""
    async with open_client(settings) as client:
        parent = await client.runs.trigger("family_line")
        await run_worker(settings, drain=True)
        made = (await client.runs.show(parent.id)).result
        children = [await client.runs.show(UUID(run_id)) for run_id in made]
    assert {child.status for child in children} == {Status.COMPLETED}
    together = [child for child in children if child.attempts[0].started_at == child.created_at]
    # Not all: for the first the project is looked up, and later ones may find the worker at it already.
    assert together


def assert_child_of(child: Run, parent: Run) -> None:
    assert (child.team, child.project) == ("crew", "moon") == (parent.team, parent.project)
    assert (child.parent_run_id, child.triggered_by) == (parent.id, f"parent:{parent.shown_id}")


async def test_a_handler_gets_its_own_settings(settings: Settings) -> None:
    """`[plugin.TYPE]` arrives as ctx.settings, and ctx.http refuses what the server has not opened."""
    async with open_client(settings) as client:
        run = await client.runs.trigger("family_reader", max_attempts=1)
        await run_worker(settings, drain=True)
        done = await client.runs.show(run.id)
    assert (done.status, done.error) == (Status.COMPLETED, None)
    assert done.result == {"greeting": "hello", "refused": "blocked_address"}


async def test_a_signal_stops_it(settings: Settings) -> None:
    """SIGTERM to the process is a stop in order."""
    ready: list[Worker] = []

    def note(worker: Worker, plugins: Plugins) -> None:
        assert {"family_child", "family_parent"} <= set(plugins.by_type)
        ready.append(worker)

    async with open_client(settings) as client, asyncio.timeout(PATIENCE):
        running = asyncio.create_task(run_worker(settings, on_start=note))
        while not ready:
            await asyncio.sleep(0)
        await ready[0].started.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        assert await running is WorkerEnd.STOPPED
        assert {kind.name for kind in await client.types.list()} >= {"family_child", "family_reader"}


def test_commands_are_off_on_a_server() -> None:
    """No worker takes them there unless they are switched on, and asking for the type says how."""
    server = Settings(database_url="postgresql://host/name")
    assert "command" not in worker_plugins(server).installed
    asked = server.model_copy(update={"runner": RunnerSettings(types=["command"])})
    with pytest.raises(ConfigError, match=r"commands are off; set enabled = true under \[command\]"):
        worker_plugins(asked)
