"""The scene of the fleet in a real network: every worker, the console and the database in a namespace of its own.

A namespace of its own is the switch as well, so nothing of the machine's network is touched. The cable of worker 0
is pulled and plugged in again. Run by scripts/fleet; needs root and iproute2.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jobdeck.store.open import upgrade
from tests.acceptance.deck import PATIENCE, Deck
from tests.acceptance.fleet import CONCURRENCY, Scene
from tests.postgres import create_database, running_server

ROOT = Path(__file__).parents[2]
LEASE = 3.0
WORKERS = 4
NODES = ("database", "console", *(f"worker{number}" for number in range(WORKERS)))
# For tests between networks (RFC 2544): on no other network may a machine have it.
NET = "198.18.77"
PREFIX = "jobdeck-fleet"
# The usual exit code of a test that could not be made.
SKIPPED = 77
# Seconds for everything; it takes about half a minute where nothing else is done.
_WHOLE = 400


class Namespaces:
    """The namespaces of one run, by node; their names carry its process id, so that what a killed run left is known."""

    def __init__(self, owner: int) -> None:
        self.owner = owner
        self.switch = self.name("switch")

    def name(self, node: str) -> str:
        return f"{PREFIX}-{self.owner}-{node}"

    def inside(self, node: str, *command: str) -> list[str]:
        """The command line that runs a command on a node."""
        return ["ip", "netns", "exec", self.name(node), *command]

    def make(self) -> None:
        """A bridge, and for each node a cable to it. Raises CalledProcessError where that is not allowed."""
        _ip("netns", "add", self.switch)
        _ip("-n", self.switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", self.switch, "link", "set", "bridge", "up")
        for number, node in enumerate(NODES, start=1):
            name = self.name(node)
            _ip("netns", "add", name)
            _ip("-n", self.switch, "link", "add", node, "type", "veth", "peer", "name", "eth0", "netns", name)
            _ip("-n", self.switch, "link", "set", node, "master", "bridge", "up")
            _ip("-n", name, "address", "add", f"{NET}.{number}/24", "dev", "eth0")
            _ip("-n", name, "link", "set", "eth0", "up")
            _ip("-n", name, "link", "set", "lo", "up")

    def pull(self, node: str) -> None:
        """From now on what the node sends goes nowhere, and it is told nothing of that."""
        _ip("-n", self.switch, "link", "set", node, "nomaster")

    def plug(self, node: str) -> None:
        _ip("-n", self.switch, "link", "set", node, "master", "bridge")


def remove_left_over() -> None:
    """Remove the namespaces of this run, and those of runs whose process is gone."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=False).stdout
    for line in listed.splitlines():
        name = line.split()[0]
        if not name.startswith(f"{PREFIX}-"):
            continue
        owner = int(name.split("-")[2])
        if owner == os.getpid() or not Path(f"/proc/{owner}").exists():
            subprocess.run(["ip", "netns", "delete", name], check=False)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@contextmanager
def _database_node(namespaces: Namespaces, server: str) -> Iterator[str]:
    """The server's socket, offered on the node of the database; the URL that leads there."""
    process = subprocess.Popen(
        namespaces.inside("database", sys.executable, "-m", "tests.link", server, f"{NET}.1"),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.wait(PATIENCE)
        process.stdout.close()


def set_up(namespaces: Namespaces) -> int:
    """Start the database, then play the scene on the node of the console; the exit code of that."""
    with contextlib.ExitStack() as stack:
        direct = create_database(stack.enter_context(running_server()))
        asyncio.run(upgrade(direct))
        url = stack.enter_context(_database_node(namespaces, direct))
        scene = [sys.executable, "-m", "tests.acceptance.namespaces", str(namespaces.owner), direct, url]
        process = subprocess.Popen(namespaces.inside("console", *scene), cwd=ROOT)
        try:
            return process.wait(_WHOLE)
        finally:
            process.terminate()
            process.wait(PATIENCE)


def play(namespaces: Namespaces, direct: str, url: str) -> None:
    """The scene with a transcript, in a process on the node of the console. AssertionError: a promise is broken."""
    began = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {line}", flush=True)

    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jobdeck-fleet-")))
        deck = Deck(url, folder)
        deck.settings |= {
            "PYTHONPATH": str(ROOT),
            "JOBDECK_HANDLERS": "tests.acceptance.cut_handlers",
            "JOBDECK_RUNNER__LEASE": f"{LEASE}s",
        }
        stack.callback(deck.stop_workers)
        say(f"database {url}; nodes {', '.join(NODES)}")
        Scene(
            deck,
            direct,
            LEASE,
            start_worker=lambda number: _start_worker(deck, namespaces, number),
            cut=lambda: namespaces.pull("worker0"),
            heal=lambda: namespaces.plug("worker0"),
            say=say,
        ).play()
        for worker in deck.workers:
            worker.send_signal(signal.SIGTERM)
        codes = [worker.wait(PATIENCE) for worker in deck.workers]
        say(f"SIGTERM to all workers: exit codes {codes}")
        assert codes == [0] * WORKERS


def _start_worker(deck: Deck, namespaces: Namespaces, number: int) -> int:
    prefix = namespaces.inside(f"worker{number}")
    return deck.new_worker("--concurrency", str(CONCURRENCY), prefix=prefix).pid


def main() -> int:
    """The exit code: 0 proved, 1 broken, 77 no namespaces to be had here."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if len(sys.argv) > 1:
        owner, direct, url = sys.argv[1:]
        play(Namespaces(int(owner)), direct, url)
        return 0
    namespaces = Namespaces(os.getpid())
    with contextlib.ExitStack() as stack:
        try:
            remove_left_over()
            stack.callback(remove_left_over)
            namespaces.make()
        except (FileNotFoundError, subprocess.CalledProcessError) as error:
            why = getattr(error, "stderr", "") or str(error)
            print(
                f"scripts/fleet: skipped, no network namespaces here ({why.strip().splitlines()[0]}): it needs root"
            )
            print(
                "and iproute2; the same with lines of TCP is scripts/test tests/acceptance/test_fleet_cut.py"
            )
            return SKIPPED
        return set_up(namespaces)


if __name__ == "__main__":
    sys.exit(main())
