"""docs/performance.md and the JSON: everything that was found, and on what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psycopg

from bench.machine import Calibration, machine
from bench.peers.environment import peer_versions
from bench.results import Row, row_as_json
from bench.room import Room
from bench.stats import spread
from bench.table import number, replace_between_markers, table

Answers = Mapping[str, Sequence[Row]]
_SERVER_SETTINGS = ("server_version", "fsync", "synchronous_commit", "shared_buffers", "wal_level")


def everything(room: Room, answers: Answers) -> dict[str, Any]:
    """What goes into the JSON."""
    return {
        "runs": room.runs,
        "scale": room.scale,
        "machine": machine(room.folder),
        "postgresql": _server(room),
        "peers": peer_versions() if room.with_peers else {},
        "calibrations": [asdict(each) for each in room.calibrations],
        "questions": {name: [row_as_json(row) for row in rows] for name, rows in answers.items()},
    }


def _server(room: Room) -> dict[str, str]:
    if not room.has_server:
        return {}
    with psycopg.connect(room.server.url) as conn:
        rows = [conn.execute(f"SHOW {name}").fetchone() for name in _SERVER_SETTINGS]
    return {name: row[0] for name, row in zip(_SERVER_SETTINGS, rows, strict=True) if row}


def write_document(document: Path, found: Mapping[str, Any], answers: Answers) -> None:
    """The generated part of the document; what was written by hand around it stays."""
    calibrations = [Calibration(**each) for each in found["calibrations"]]
    parts = [_setting(found), noise(calibrations), results(answers)]
    replace_between_markers(document, "\n\n".join(parts))


def results(answers: Answers) -> str:
    """What is held to a target, then everything by question."""
    held = [row for rows in answers.values() for row in rows if row.goals]
    goals = [goal for row in held for goal in row.goals]
    parts = [f"### Targets\n\n{sum(goal.met for goal in goals)} of {len(goals)} met.", table(held)]
    for name, rows in answers.items():
        parts += [f"### {name}", table(rows)]
    return "\n\n".join(parts)


def noise(calibrations: Sequence[Calibration]) -> str:
    """How much the machine itself went up and down meanwhile."""
    commits = spread([each.commits_per_second for each in calibrations])
    loop = spread([each.loop_ms for each in calibrations])
    return (
        f"Noise: {len(calibrations)} times between the measurements a loop was run that is always the same. "
        f"Durable one-row commits of SQLite: {number(commits.median)}/s "
        f"({number(commits.low)}-{number(commits.high)}); a loop of plain Python: {number(loop.median)} ms "
        f"({number(loop.low)}-{number(loop.high)})."
    )


def _setting(found: Mapping[str, Any]) -> str:
    facts = found["machine"]
    software = {
        name: facts[name] for name in ("python", "sqlite", "sqlalchemy", "aiosqlite", "asyncpg", "pydantic")
    }
    if found["postgresql"]:
        software["postgresql"] = found["postgresql"]["server_version"]
    listed = ", ".join(f"{name} {value}" for name, value in (software | found["peers"]).items())
    return (
        f"Machine: {facts['cpu']}, {facts['cores']} cores, {facts['memory_gib']} GiB, Linux {facts['kernel']}, "
        f"files on {facts['file_system']}. {found['runs']} rounds.\n\nVersions: jobdeck {facts['jobdeck']}, {listed}."
    )
