"""However a worker dies, none of its children outlives it by more than seconds."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.process.recording import await_gone, marked, running, shims_of
from tests.process.test_supervised import DAEMON

# Runs its second argument as a child that has the first in its environment, and prints what the child prints.
WORKER = """
import asyncio, os, sys
from jobdeck.process import SupervisedProcess

async def main():
    env = {"PATH": os.environ["PATH"], "MARK": sys.argv[1]}
    async with SupervisedProcess([sys.executable, "-c", sys.argv[2]], env=env) as process:
        async for line in process.lines():
            on_line(line.text)

def on_line(text):
    print(text, flush=True)

"""
ISOLATING_WORKER = """
import asyncio, os, sys
from jobdeck.process.isolated import run_isolated

os.environ["MARK"] = sys.argv[1]
sys.path += sys.argv[2].split(":")
from tests.process.recording import RecordingContext

async def main():
    ctx = RecordingContext()
    task = asyncio.create_task(run_isolated("probe_handlers:family", ctx, "{}"))
    await ctx.log.until("ready")
    print("ready", flush=True)
    await task

"""
START = "asyncio.run(main())\n"
# The same, forked once when the child runs: the fork has a copy of every descriptor and outlives the worker.
FORK = """
import time

def on_line(text):
    fork = os.fork()
    if fork == 0:
        time.sleep(600)
    print(fork, flush=True)

"""
STUBBORN = "import signal, os\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nos.system('sleep 600 &')\n"
STAY = "\nimport time\ntime.sleep(600)\n"


@contextmanager
def worker_with_child(mark: str, code: str, script: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A worker whose child runs `script`, and the first line it prints: then the child's daemon runs."""
    argv = [sys.executable, "-c", code, mark, script]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        yield worker, worker.stdout.readline().strip()
        worker.kill()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGABRT])
def test_nothing_survives_the_worker(mark: str, number: signal.Signals) -> None:
    """Child, background process, daemon and shim are gone within 5 s of the worker's death, even stubborn."""
    with worker_with_child(mark, WORKER + START, STUBBORN + DAEMON + STAY) as (worker, line):
        assert line == "daemon runs"
        shims = shims_of(worker.pid)
        assert len(shims) == 1
        assert len(marked(mark)) >= 3
        worker.send_signal(number)
        worker.wait(10)
        await_gone(lambda: marked(mark) | running(shims))


def test_nothing_survives_the_worker_of_an_isolated_handler(mark: str) -> None:
    """The child process of a handler and what the handler started end with the worker as well."""
    here = Path(__file__).parent
    path = f"{here.parent.parent}:{here / 'plugin'}"
    with worker_with_child(mark, ISOLATING_WORKER + START, path) as (worker, line):
        assert line == "ready"
        assert len(marked(mark)) >= 2
        worker.kill()
        worker.wait(10)
        await_gone(lambda: marked(mark))


def test_a_fork_that_holds_the_socket_does_not_keep_the_children(mark: str) -> None:
    """The worker's end is noticed although a process forked from it holds its side of the socket open."""
    with worker_with_child(mark, WORKER + FORK + START, DAEMON + STAY) as (worker, line):
        fork = int(line)
        try:
            shims = shims_of(worker.pid)
            assert len(shims) == 1
            worker.kill()
            worker.wait(10)
            await_gone(lambda: marked(mark) | running(shims))
            assert running([fork]) == {fork}
        finally:
            os.kill(fork, signal.SIGKILL)
