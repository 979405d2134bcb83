"""A question from its set-up to the files, at a scale that shows nothing but that it works."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench import main as program
from bench.deck import Kind
from bench.history import TEAMS, history
from bench.questions import enqueue
from bench.room import Room, open_room
from bench.table import BEGIN, END

# Of the file system, because what lies in memory is refused; many have their /tmp there.
DISK = Path("/var/tmp")


@pytest.fixture
def room() -> Iterator[Room]:
    """A room for one round of almost nothing, without the peers' environment."""
    with open_room(DISK, runs=1, scale=0.001, peers=False) as room:
        yield room


def test_a_question_writes_a_table_and_its_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The ratios in the JSON are those of the rounds in it, and the table says the same."""
    monkeypatch.setattr(program, "QUESTIONS", {"enqueue": enqueue.sqlite})
    output = tmp_path / "found.json"
    arguments = ["enqueue", "--no-peers", "--runs", "1", "--scale", "0.01", "--json", str(output)]
    assert program.main(arguments) == 0
    found = json.loads(output.read_text())
    rows = {row["what"]: row for row in found["questions"]["enqueue"]}
    assert set(rows) == {
        "SQLite: enqueue one by one",
        "SQLite: enqueue from 100 tasks at once",
        "SQLite: enqueue in bulk, 100 at a time",
        "SQLite: enqueue in bulk, 500 at a time",
    }
    said = capsys.readouterr().out
    for row in rows.values():
        assert f"| {row['what']} |" in said
        for other in row["others"]:
            expected = [a / b for a, b in zip(row["ours"]["rounds"], other["rounds"], strict=True)]
            assert other["ratio"]["rounds"] == pytest.approx(expected)
            assert min(expected) > 0
    assert found["machine"]["cores"] >= 1
    assert len(found["calibrations"]) > 5


def test_all_writes_the_document_only_from_a_whole_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quick look never replaces published figures."""
    document = tmp_path / "performance.md"
    document.write_text(f"{BEGIN}\npublished\n{END}\n")
    monkeypatch.setattr(program, "QUESTIONS", {})
    monkeypatch.setattr(program, "DOCUMENT", document)
    monkeypatch.setattr(program, "FIGURES", tmp_path / "performance.json")
    assert program.main(["all", "--no-peers", "--scale", "0.5"]) == 0
    assert program.main(["all", "--no-peers", "--runs", "1"]) == 0
    assert "published" in document.read_text()
    assert program.main(["all", "--no-peers"]) == 0
    assert "published" not in document.read_text()
    assert "Machine:" in document.read_text()


def test_a_folder_in_memory_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Figures of a disk are not taken where there is none."""
    assert program.main(["enqueue", "--folder", "/dev/shm"]) == 2
    assert "lies in memory" in capsys.readouterr().err


def test_a_question_that_fails_takes_no_other_with_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is named, the others are answered, and the exit code tells."""

    def broken(room: Room) -> list[Any]:
        raise RuntimeError("no such peer")

    monkeypatch.setattr(program, "QUESTIONS", {"broken": broken, "empty": lambda room: []})
    assert program.main(["all", "--no-peers"]) == 1
    said = capsys.readouterr().out
    assert "broken: NOT ANSWERED: RuntimeError: no such peer" in said
    assert "empty: answered" in said


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_history_is_whole(kind: Kind, room: Room) -> None:
    """Copied runs have their attempts, events and log, belong to their team's project, and lie in the past year."""
    count = 3_000
    deck = history(room, kind, count)
    stored = deck.ask("SELECT count(*) FROM runs")
    made = stored - count
    assert 0 < made < 100
    assert deck.ask("SELECT count(*) FROM runs WHERE finished_at IS NULL") == 0
    assert deck.ask("SELECT count(DISTINCT id) FROM runs") == stored
    assert deck.ask("SELECT sum(runs) FROM run_counts") == stored
    assert deck.ask("SELECT count(DISTINCT run_id) FROM run_events") == stored
    never_started = deck.ask("SELECT count(*) FROM runs WHERE started_at IS NULL")
    assert deck.ask("SELECT count(DISTINCT run_id) FROM attempts") == stored - never_started
    assert deck.ask("SELECT count(*) FROM run_logs") > count // 100
    assert deck.ask("SELECT count(DISTINCT team_id) FROM runs") == len(TEAMS) + 1
    strangers = """
    SELECT count(*) FROM runs r LEFT JOIN projects p ON p.id = r.project_id AND p.team_id = r.team_id
    WHERE p.id IS NULL
    """
    assert deck.ask(strangers) == 0
    completed = deck.ask("SELECT count(*) FROM runs WHERE status = 'completed'")
    assert 0.8 < completed / stored < 0.95
    span_us = deck.ask("SELECT max(created_at) - min(created_at) FROM runs")
    assert 0.95 < span_us / (365 * 86_400 * 1_000_000) < 1.05
