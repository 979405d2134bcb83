"""`jobdeck runner` and `jobdeck demo`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobdeck.cli.call import Call
from jobdeck.cli.command import command

if TYPE_CHECKING:
    from jobdeck.engine.worker import Worker
    from jobdeck.plugins import Plugins


def register(app: typer.Typer) -> None:
    """Add the commands to the tree."""
    command(app, "runner")(runner)
    command(app, "demo")(demo)


def runner(
    call: Call,
    queue: Annotated[
        list[str] | None, typer.Option("--queue", metavar="NAME", help="Only this queue; may be repeated.")
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option("--concurrency", metavar="N", help="Runs at the same time; default 10.")
    ] = None,
    drain: Annotated[bool, typer.Option("--drain", help="End when nothing is due or running.")] = False,
) -> None:
    """Work: claim runs and execute them until SIGTERM; a second SIGTERM ends at once."""
    import asyncio

    from jobdeck.bootstrap import run_worker
    from jobdeck.cli.output import say
    from jobdeck.engine.worker import WorkerEnd

    given: dict[str, Any] = {"queues": queue, "concurrency": concurrency}
    settings = call.settings_with({"runner": {key: value for key, value in given.items() if value}})
    _log_to_stderr()
    end = asyncio.run(run_worker(settings, drain=drain, on_start=_greet))
    if end is WorkerEnd.STUCK:
        say("a handler did not let go; this process is replaced by a fresh one")
        os.execv(sys.executable, [sys.executable, "-m", "jobdeck", *sys.argv[1:]])  # noqa: S606  ourselves, as started


def _log_to_stderr() -> None:
    import logging

    form = "%(asctime)s %(levelname)s %(name)s %(message)s"
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format=form)
    # How it sets itself up at the first start is of no interest to whoever reads a worker's log.
    logging.getLogger("alembic").setLevel(logging.WARNING)


def _greet(worker: Worker, plugins: Plugins) -> None:
    from jobdeck.cli.output import say

    for broken in plugins.broken:
        say(f"left out: {broken.source}: {broken.reason}")
    say(f"worker {worker.name} knows {', '.join(sorted(plugins.by_type))}")


def demo(call: Call) -> None:
    """A demo team with a worker and a real data sync: in a terminal the console, else one sync to its end."""
    from jobdeck.demo.run import main

    raise typer.Exit(main(call.config))
