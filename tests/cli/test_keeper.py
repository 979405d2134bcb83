"""A kept process: started again with growing pauses, ended in order or by force; and many of them under one parent."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator

import pytest

from jobdeck.cli import keeper as module
from jobdeck.cli.keeper import Keeper
from jobdeck.cli.supervisor import _until_over

PATIENCE = 60.0


class Told:
    """The lines a keeper says; `wait(n)` returns once there are n of them."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._said = threading.Condition()

    def __call__(self, line: str) -> None:
        with self._said:
            self.lines.append(line)
            self._said.notify_all()

    def wait(self, count: int) -> list[str]:
        with self._said:
            assert self._said.wait_for(lambda: len(self.lines) >= count, PATIENCE)
            return self.lines[:count]


def program(*arguments: str) -> Callable[[], subprocess.Popen[bytes]]:
    """Starts a program whose output is not wanted."""
    return lambda: subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def stubborn(started: list[subprocess.Popen[bytes]]) -> Callable[[], subprocess.Popen[bytes]]:
    """A child that takes no notice of SIGTERM; it is in `started` once that is so."""

    def spawn() -> subprocess.Popen[bytes]:
        script = "trap '' TERM; echo; exec sleep 600"
        process = subprocess.Popen(["/bin/sh", "-c", script], stdout=subprocess.PIPE)
        assert process.stdout is not None
        with process.stdout:
            process.stdout.readline()
        started.append(process)
        return process

    return spawn


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAUSE_FIRST", 0.01)
    monkeypatch.setattr(module, "_PAUSE_MAX", 0.04)


def pauses(lines: list[str]) -> list[str]:
    return [line.partition("another one starts in ")[2] for line in lines]


def test_the_pauses_grow_to_a_limit(told: Told) -> None:
    """A child that dies again and again is not started faster and faster; each death is told with how it came."""
    kept = Keeper(program("false"), tell=told)
    kept.start()
    lines = told.wait(5)
    kept.stop()
    assert pauses(lines) == ["0.01 s", "0.02 s", "0.04 s", "0.04 s", "0.04 s"]
    assert all(" ended with exit code 1 after 0 s; " in line for line in lines)
    assert kept.over.result(PATIENCE) == 1


def test_one_that_had_worked_begins_again_at_the_first_pause(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Yesterday's deaths do not make today's pause longer."""
    monkeypatch.setattr(module, "_SETTLED", 0.0)
    kept = Keeper(program("sh", "-c", "kill -9 $$"), tell=told)
    kept.start()
    lines = told.wait(3)
    kept.stop()
    assert pauses(lines) == ["0.01 s"] * 3
    assert all(" died of signal 9 (Killed) " in line for line in lines)


def test_a_child_that_has_done_its_work_is_not_followed(told: Told) -> None:
    """With `is_done` the exit code says whether there is more to do."""
    kept = Keeper(program("true"), tell=told, is_done=lambda code: code == 0)
    kept.start()
    assert kept.over.result(PATIENCE) == 0
    assert told.lines == []


def test_a_stop_in_the_pause_ends_it(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is started any more, and nobody waits for the pause to be over."""
    monkeypatch.setattr(module, "_PAUSE_FIRST", 3_600.0)
    kept = Keeper(program("false"), tell=told)
    kept.start()
    told.wait(1)
    kept.stop()
    assert kept.over.result(PATIENCE) == 1
    assert len(told.lines) == 1


def test_a_machine_that_can_start_nothing_is_tried_again(told: Told) -> None:
    """No process to be had is a death like another: told, and tried again after the pause."""
    found: Iterator[str] = iter(["false", "/no/such/program", "/no/such/program", "true"])
    kept = Keeper(lambda: subprocess.Popen([next(found)]), tell=told, is_done=lambda code: code == 0)
    kept.start()
    assert kept.over.result(PATIENCE) == 0
    assert sum("cannot be started: " in line for line in told.lines) == 2


def test_a_child_that_is_left_lives_on(told: Told) -> None:
    """`leave` asks nothing of it."""
    started: list[subprocess.Popen[bytes]] = []
    kept = Keeper(stubborn(started), tell=told)
    kept.start()
    kept.leave()
    assert started[0].poll() is None
    kept.kill()
    assert kept.over.result(PATIENCE) == -signal.SIGKILL
    assert told.lines == []


async def test_who_does_not_stop_is_killed(told: Told) -> None:
    """The parent waits for the grace and its margin, then ends what is left, and its codes tell."""
    started: list[subprocess.Popen[bytes]] = []
    keepers = [Keeper(stubborn(started), tell=told), Keeper(program("sleep", "600"), tell=told)]
    stopping = threading.Thread(target=_signal_once, args=(started,))
    stopping.start()
    codes = await _until_over(keepers, patience=0.2)
    stopping.join()
    assert codes == [-signal.SIGKILL, -signal.SIGTERM]
    assert told.lines == []


def _signal_once(started: list[subprocess.Popen[bytes]]) -> None:
    while not started:
        pass
    os.kill(os.getpid(), signal.SIGTERM)
