"""The command line that every peer's script has: what to do, and how often. Answers in JSON."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

BULK = 500
"""Jobs per call of a peer's own bulk function."""


@dataclass(frozen=True)
class Script:
    """What a peer can do. All of it blocks; what is missing has another command, or nothing asks for it."""

    set_up: Callable[[], None]
    one: Callable[[int], float]
    work: Callable[[], None] | None = None
    bulk: Callable[[int], float] | None = None


def storage() -> str:
    """The file or the server a peer is to use."""
    return os.environ["BENCH_STORAGE"]


def timed_loop(count: int, enqueue: Callable[[], object]) -> float:
    """Seconds for `count` calls, one after the other."""
    started = time.perf_counter()
    for _ in range(count):
        enqueue()
    return time.perf_counter() - started


def chunks(count: int) -> list[int]:
    """`count` in parts of what one bulk call takes."""
    return [min(BULK, count - start) for start in range(0, count, BULK)]


def run(script: Script) -> None:
    """Do what the arguments say and print the seconds it took."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("set_up", "one", "bulk", "work"))
    parser.add_argument("count", type=int, nargs="?", default=0)
    options = parser.parse_args()
    act = getattr(script, options.what)
    print(json.dumps(act(options.count) if options.what in ("one", "bulk") else act()))
