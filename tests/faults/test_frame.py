"""The frame of the cases: ledger, kill points, clocks, processes and report do what the cases rely on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from tests.faults.hostclock import CLOCK_VARIABLE, HostClock
from tests.faults.killpoints import POINTS, Action, KillPoint
from tests.faults.ledger import Kind, Ledger, of_kind
from tests.faults.report import Row, put_into, read_rows, table, write_row
from tests.faults.workers import as_toml, merged
from tests.nursery import ROOT, Child, Nursery

RUN = UUID(int=5)
ROW = Row("R03", "What is done.", "sqlite", "short", 7, 1_200, 0, 0, 0, 2.04, 0.954, 31.0, "a note")


def test_a_ledger_keeps_whole_lines(tmp_path: Path) -> None:
    """What was written comes back in order; of a line that is being written, nothing."""
    ledger = Ledger(tmp_path / "ledger")
    assert ledger.read() == []
    ledger.asked("a", "b")
    ledger.enqueued({"a": RUN})
    ledger.fault("kill", 9)
    with ledger.path.open("a") as file:
        file.write('{"kind": "X", "at":')
    entries = ledger.read()
    assert [(entry.kind, entry.key) for entry in entries] == [("U", "a"), ("U", "b"), ("E", "a"), ("F", None)]
    assert (entries[2].run, entries[3].fault, entries[3].pid) == (RUN.hex, "kill", 9)
    assert [entry.key for entry in of_kind(entries, Kind.UNKNOWN)] == ["a", "b"]


@pytest.mark.parametrize("action", Action)
def test_a_kill_point_is_carried_by_the_environment(action: Action) -> None:
    """What is armed in one process is read in the other; a place that does not exist is refused."""
    for point in POINTS:
        assert KillPoint.parse(str(KillPoint(point, 3, action))) == KillPoint(point, 3, action)
    with pytest.raises(ValueError, match="no kill point"):
        KillPoint("claim.somewhere")


def test_only_the_nth_passing_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other places and earlier passings do nothing; the passing itself is in the ledger first."""
    monkeypatch.setenv("JOBDECK_TEST_LEDGER", str(tmp_path / "ledger"))
    kill = KillPoint("finish.after_commit", 2, Action.FAIL)
    kill.pass_by("finish.before_commit")
    kill.pass_by("finish.after_commit")
    assert Ledger(tmp_path / "ledger").read() == []
    with pytest.raises(ConnectionResetError):
        kill.pass_by("finish.after_commit")
    kill.pass_by("finish.after_commit")
    (entry,) = Ledger(tmp_path / "ledger").read()
    assert (entry.fault, entry.pid) == ("fail at finish.after_commit", os.getpid())


@pytest.fixture
def own_nursery() -> Iterator[Nursery]:
    nursery = Nursery()
    yield nursery
    nursery.close()


def test_children_have_their_own_exit_code_environment_and_output(
    own_nursery: Nursery, tmp_path: Path
) -> None:
    """A child is the program it was asked to be, and its end is told once to whoever waits."""
    environment = {"PATH": os.environ["PATH"]}

    def start(*arguments: str) -> Child:
        log = tmp_path / arguments[0]
        return own_nursery.start("jobdeck", arguments, environment=environment, folder=tmp_path, log=log)

    good, bad = start("--version"), start("no-such-command")
    assert (good.wait(60), bad.wait(60)) == (0, 2)
    assert (good.poll(), bad.wait(0)) == (0, 2)
    assert (tmp_path / "--version").read_text().startswith("jobdeck ")
    assert "no-such-command" in (tmp_path / "no-such-command").read_text()


def test_a_child_knows_its_command_line_and_finds_modules_as_a_new_interpreter_does(
    own_nursery: Nursery, tmp_path: Path
) -> None:
    """It can start itself again by its command line; its folder comes first, then the folders of the environment."""
    (tmp_path / "told.py").write_text("import sys\nprint(sys.orig_argv, sys.path[:2])\n")
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    child = own_nursery.start(
        "told", ["--once"], environment=environment, folder=tmp_path, log=tmp_path / "log"
    )
    assert child.wait(60) == 0
    said = (tmp_path / "log").read_text()
    new = subprocess.run(
        [sys.executable, "-m", "told", "--once"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert said == new.stdout


def test_children_are_signalled_and_end_with_their_nursery(own_nursery: Nursery, tmp_path: Path) -> None:
    """A signal is a negative code; what is left when the nursery closes is killed."""
    environment = {"PATH": os.environ["PATH"]}
    started = [
        own_nursery.start(
            "http.server", ["0"], environment=environment, folder=tmp_path, log=tmp_path / f"{n}"
        )
        for n in range(2)
    ]
    with pytest.raises(subprocess.TimeoutExpired):
        started[0].wait(0)
    started[0].send_signal(signal.SIGKILL)
    assert started[0].wait(60) == -signal.SIGKILL
    own_nursery.close()
    deadline = time.monotonic() + 60
    while Path(f"/proc/{started[1].pid}").exists():
        assert time.monotonic() < deadline


def test_a_host_clock_jumps_for_its_processes(tmp_path: Path) -> None:
    """The offset is in a file that every process of the host has open."""
    clock = HostClock(tmp_path / "clock", 100.0)
    clock.jump(-160.0)
    code = "import time; from tests.faults import hostclock; real = time.time(); hostclock.install(); "
    code += "print(round(time.time() - real))"
    environment = {"PYTHONPATH": str(ROOT), CLOCK_VARIABLE: str(clock.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "-60"


def test_the_report_is_a_table_between_two_marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows go through a file and into the document, whose other text stays; one without marks is refused."""
    monkeypatch.setenv("JOBDECK_TEST_FAULTS_REPORT", str(tmp_path / "rows"))
    write_row(ROW, [])
    assert read_rows(tmp_path / "rows") == [ROW]
    line = "| R03 | sqlite | 7 | 1,200 | 0 | 0 | 0 | 2.0 s | 95% | 31 s | a note |"
    assert table([ROW]).splitlines()[2] == line
    marked = "before\n<!-- faults: begin -->\nold\n<!-- faults: end -->\nafter"
    written = put_into(marked, [ROW])
    assert written.startswith("before\n<!-- faults: begin -->\n- **R03**: What is done.\n")
    assert written.endswith(f"{line}\n<!-- faults: end -->\nafter")
    assert put_into(written, [ROW]) == written
    with pytest.raises(ValueError, match="lacks"):
        put_into("no marks", [ROW])


def test_a_configuration_file_has_its_tables_last() -> None:
    """Plain keys first, then the sections; what is given goes over what was there, section by section."""
    settings = merged(
        {"team": "a", "runner": {"lease": "2s", "poll": "1s"}}, {"runner": {"poll": "5s"}, "handlers": ["m"]}
    )
    assert as_toml(settings) == 'team = "a"\nhandlers = ["m"]\n\n[runner]\nlease = "2s"\npoll = "5s"\n'
