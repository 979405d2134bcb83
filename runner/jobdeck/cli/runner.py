"""`jobdeck runner`, a worker in the foreground, and `jobdeck demo`."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobdeck.cli.call import Call
from jobdeck.cli.command import command

if TYPE_CHECKING:
    from jobdeck.engine.worker import Worker
    from jobdeck.plugins import Plugins
    from jobdeck.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the commands to the tree."""
    command(app, "runner")(runner)
    command(app, "demo")(demo)


def runner(
    call: Call,
    queue: Annotated[
        list[str] | None, typer.Option("--queue", metavar="NAME", help="Only this queue; repeat it.")
    ] = None,
    job_type: Annotated[
        list[str] | None, typer.Option("--type", metavar="TYPE", help="Only this job type; repeat it.")
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="NAME", help="Offer this to job types that ask for it; repeat it."),
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(metavar="N", help="Runs at the same time, in each process.")
    ] = None,
    processes: Annotated[
        int | None, typer.Option(metavar="N", help="Worker processes; a parent watches over more than one.")
    ] = None,
    drain: Annotated[bool, typer.Option("--drain", help="End when nothing is due or running.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Only say what would keep it from starting, and end.")
    ] = False,
    stop_on_eof: Annotated[int | None, typer.Option(metavar="FD", hidden=True)] = None,
) -> None:
    """Work on runs until stopped: SIGTERM or Ctrl-C once to finish in order, twice to stop now."""
    own: dict[str, Any] = {
        "queues": queue or None,
        "types": job_type or None,
        "labels": label or None,
        "concurrency": concurrency,
        "processes": processes,
    }
    settings = call.settings_with({"runner": {key: value for key, value in own.items() if value is not None}})
    _log_to_stderr(logging.DEBUG if call.debug else logging.INFO)
    if check:
        return _check(settings)
    if stop_on_eof is not None:
        _stop_at_end_of(stop_on_eof)
    if settings.runner.processes > 1:
        raise typer.Exit(_supervise(settings, drain))
    return _work(settings, drain)


def _check(settings: Settings) -> None:
    from jobdeck.bootstrap import check_worker

    asyncio.run(check_worker(settings))


def _supervise(settings: Settings, drain: bool) -> int:
    from jobdeck.cli.supervisor import supervise

    runner = settings.runner
    return supervise(runner.processes, drain=drain, grace=runner.shutdown_grace.total_seconds())


def _work(settings: Settings, drain: bool) -> None:
    from jobdeck.bootstrap import run_worker
    from jobdeck.engine.loops import run
    from jobdeck.engine.worker import WorkerEnd

    end = run(run_worker(settings, drain=drain, on_start=_announce))
    if end is WorkerEnd.STUCK:
        _replace_process()


def _announce(worker: Worker, plugins: Plugins) -> None:
    log = logging.getLogger("jobdeck.runner")
    for broken in plugins.broken:
        log.warning("left out %s: %s", broken.source, broken.reason)
    log.info("worker %s takes runs of %s", worker.name, ", ".join(sorted(plugins.by_type)))


def _stop_at_end_of(descriptor: int) -> None:
    """Stop in order when the other end of a pipe is gone: also a killed parent leaves no worker behind."""

    def wait() -> None:
        while os.read(descriptor, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="jobdeck-parent-watch", daemon=True).start()


def _replace_process() -> None:
    """Start over in the same process id: a thread that never returns can only be got rid of with its process."""
    logging.getLogger(__name__).warning("a handler does not let go; the worker replaces itself")
    logging.shutdown()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606  our own command line


class _InertFormatter(logging.Formatter):
    """Handlers log through this process too, so its lines are as hostile, and as secret, as theirs."""

    def format(self, record: logging.LogRecord) -> str:
        from jobdeck.secret import redact
        from jobdeck.text import clean

        return clean(redact(super().format(record)), lines=True)


def _log_to_stderr(level: int) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_InertFormatter("%(asctime)s %(process)d %(levelname)-7s %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("jobdeck").setLevel(level)


def demo(call: Call) -> None:
    """A demo team with a worker and a real data sync: in a terminal the console, else one sync to its end."""
    from jobdeck.demo.run import main

    raise typer.Exit(main(call.config))
