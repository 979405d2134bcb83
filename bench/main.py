"""`scripts/bench QUESTION`: set up, measure, print a table, and write what was found."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench.document import everything, noise, write_document
from bench.machine import calibrate
from bench.process import ROOT
from bench.questions import (
    cpu,
    drain,
    enqueue,
    fairness,
    latency,
    lists,
    memory,
    processes,
    slow_disk,
    stored,
)
from bench.results import Row
from bench.room import FolderInMemory, Room, open_room
from bench.table import table

QUESTIONS: dict[str, Callable[[Room], list[Row]]] = {
    "enqueue": enqueue.answer,
    "drain-sqlite": drain.sqlite,
    "drain-postgres": drain.postgres,
    "latency": latency.answer,
    "processes": processes.answer,
    "stored": stored.answer,
    "lists": lists.answer,
    "slow-disk": slow_disk.answer,
    "memory": memory.answer,
    "fairness": fairness.answer,
    "cpu": cpu.answer,
}
DOCUMENT = ROOT / "docs" / "performance.md"
FIGURES = ROOT / "docs" / "performance.json"
_LEAST_RUNS = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 1 where a question could not be answered, 2 for arguments that make no sense."""
    options = _parser().parse_args(arguments)
    if options.question == "list":
        for name, ask in QUESTIONS.items():
            print(f"{name:16} {_summary(ask)}")
        return 0
    names = list(QUESTIONS) if options.question == "all" else [options.question]
    try:
        with open_room(options.folder, runs=options.runs, scale=options.scale, peers=options.peers) as room:
            answers, failed = _ask(room, names)
            found = everything(room, answers)
    except FolderInMemory as error:
        print(f"scripts/bench: {error}", file=sys.stderr)
        return 2
    if options.json:
        _write_json(options.json, found)
    room.say(noise(room.calibrations))
    if options.question == "all" and options.runs >= _LEAST_RUNS and options.scale == 1 and not failed:
        _write_json(FIGURES, found)
        write_document(DOCUMENT, found, answers)
    return 1 if failed else 0


def _ask(room: Room, names: Sequence[str]) -> tuple[dict[str, list[Row]], bool]:
    answers: dict[str, list[Row]] = {}
    failed = False
    for name in names:
        started = time.monotonic()
        try:
            answers[name] = QUESTIONS[name](room)
        except Exception as error:
            # One question that cannot be answered takes none of the others with it.
            room.say(f"{name}: NOT ANSWERED: {type(error).__name__}: {error}")
            failed = True
        else:
            room.say(f"{name}: answered in {time.monotonic() - started:.0f} s\n\n{table(answers[name])}")
    with suppress(OSError):
        room.calibrations.append(calibrate(room.folder))
    return answers, failed


def _write_json(path: Path, found: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(found, indent=1) + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("question", choices=[*QUESTIONS, "all", "list"])
    parser.add_argument("--runs", type=_positive, default=_LEAST_RUNS, help="rounds; a table needs three")
    parser.add_argument("--scale", type=float, default=1.0, help="less than 1 for a quick look")
    parser.add_argument("--json", type=Path, help="where to write every figure")
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp"), help="on the disk to be measured")
    parser.add_argument("--no-peers", dest="peers", action="store_false", help="jobdeck and the bare storage")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def _summary(ask: Callable[[Room], list[Row]]) -> str:
    module = sys.modules[ask.__module__]
    return (module.__doc__ or "").splitlines()[0]
