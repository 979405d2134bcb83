"""The last walls: the filter of segments, input that is no text, the crash, the log file, the clipboard."""

from __future__ import annotations

import codecs
import logging
import os
import stat
import sys
from pathlib import Path

import pytest
from rich.segment import Segment
from textual.color import Color
from textual.drivers import linux_driver

from jobdeck.errors import ConfigError, ValidationError
from jobdeck.settings import Settings
from jobdeck_tui import clipboard, run_console
from jobdeck_tui.app import Console
from jobdeck_tui.driver import forgive_input
from jobdeck_tui.safety import ControlFilter, crash_line, crash_report, logging_to
from tests.tui.conftest import OpenDeck
from tests.tui.fake_client import FakeClient, make_run
from tests.tui.hostile import CONTROL, PAYLOADS


@pytest.mark.parametrize("payload", PAYLOADS)
def test_the_filter_leaves_nothing_to_obey(payload: str) -> None:
    """Text that no renderer has cleaned is made inert before it is written."""
    segments = ControlFilter().apply([Segment(PAYLOADS[payload])], Color(0, 0, 0))
    assert not CONTROL.search("".join(segment.text for segment in segments))


def test_the_filter_leaves_control_segments_alone() -> None:
    """Textual's own control segments are how the screen is drawn."""
    segments = [Segment("\x1b[2J", None, []), Segment("plain")]
    assert ControlFilter().apply(segments, Color(0, 0, 0))[1] is segments[1]


async def test_every_text_of_the_console_passes_the_filter(open_deck: OpenDeck) -> None:
    """The console has the filter in force, whichever widget draws."""
    async with open_deck() as deck:
        assert any(isinstance(one, ControlFilter) for one in deck.console.get_line_filters())


@pytest.mark.parametrize("payload", PAYLOADS)
async def test_a_hostile_run_is_shown_literally(
    open_deck: OpenDeck, client: FakeClient, payload: str
) -> None:
    """No payload crashes a view, acts, or leaves a control character on the screen."""
    text = PAYLOADS[payload]
    run = make_run(1, status="running", name=text, queue=text, error=text, params={"x": text}, result=text)
    client.runs.put(run)
    client.runs.say(run.id, text, level=text)
    async with open_deck() as deck:
        screens = [deck.text]
        for key in ("enter", "tab", "tab", "tab", "tab"):
            await deck.press(key)
            screens.append(deck.text)
        assert deck.console.is_running
        for screen in screens:
            assert not CONTROL.search(screen.replace("\n", ""))
        if payload in ("closing", "markup", "action"):
            assert text[:12] in screens[1]


def test_bytes_that_are_no_text_do_not_end_the_input() -> None:
    """The driver's decoder replaces what it cannot read, also in the middle of a character."""
    before = linux_driver.__dict__["getincrementaldecoder"]
    try:
        forgive_input()
        decode = linux_driver.__dict__["getincrementaldecoder"]("utf-8")().decode
        assert decode(b"a\xffb") == "a\ufffdb"
        assert decode(b"\xc3") + decode(b"\xa4") == "ä"
        assert decode(b"\x1b[M \xc8\xc9", final=True).startswith("\x1b[M ")
    finally:
        linux_driver.__dict__["getincrementaldecoder"] = before
    assert before is codecs.getincrementaldecoder


def fail(password: str) -> None:
    """An error with a secret in a local variable."""
    raise RuntimeError(f"broken after {len(password)} letters")


def test_a_crash_report_has_no_values_of_variables() -> None:
    """Lines of code and the message, but nothing that was in memory; the line for the terminal is shorter still."""
    with pytest.raises(RuntimeError) as caught:
        fail("hunter2hunter2")
    report = crash_report(caught.value)
    assert "broken after 14 letters" in report
    assert "hunter2" not in report.replace('fail("hunter2hunter2")', "")
    assert crash_line(caught.value, Path("/x/console.log")) == (
        "jobdeck console: unexpected RuntimeError; details in /x/console.log"
    )


async def test_a_crash_prints_no_locals(
    open_deck: OpenDeck,
    client: FakeClient,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """An error in the console's own code ends it with the failure kept, and nothing of it on the terminal."""

    def broken(_y: int) -> None:
        password = "hunter2"
        raise ZeroDivisionError(len(password))

    consoles: list[Console] = []

    async def crash() -> None:
        async with open_deck() as deck:
            consoles.append(deck.console)
            monkeypatch.setattr(deck.runs.table, "render_line", broken)
            deck.runs.table.refresh()
            await deck.press("j")

    with pytest.raises(ZeroDivisionError):
        await crash()
    assert isinstance(consoles[0].failure, ZeroDivisionError)
    out = capsys.readouterr()
    assert "hunter2" not in out.out + out.err


def test_logging_goes_to_a_private_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """While the console runs nothing is logged to the terminal; the file is 0600 also where it was not before."""
    path = tmp_path / "console.log"
    path.touch(mode=0o644)
    root = logging.getLogger()
    before = root.handlers[:]
    with logging_to(path):
        logging.getLogger("some.library").warning("told %s", "\udc80")
    assert root.handlers == before
    assert "told" in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert capsys.readouterr().err == ""


async def test_the_clipboard_of_tmux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside tmux its own command is used; the terminal's sequence only where that fails."""
    program = tmp_path / "tmux"
    program.write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/arguments\ncat >{tmp_path}/buffer\n')
    program.chmod(0o755)
    monkeypatch.setenv("TMUX", "/tmp/x,1,0")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    written: list[str] = []
    assert await clipboard.copy("run_1\x1b]0;x\x07", written.append) == "by tmux"
    assert (tmp_path / "buffer").read_text() == "run_1\\x1b]0;x\\x07"
    assert (tmp_path / "arguments").read_text() == "load-buffer -w -\n"
    assert written == []
    program.write_text("#!/bin/sh\nexit 1\n")
    assert await clipboard.copy("run_1", written.append) == "if the terminal allows it"
    assert written == ["run_1"]


async def test_copying_an_id(open_deck: OpenDeck, client: FakeClient) -> None:
    """y copies the whole id of the run under the cursor."""
    run = make_run(1)
    client.runs.put(run)
    async with open_deck() as deck:
        await deck.press("y")
        assert deck.console.clipboard == run.shown_id
        assert f"copied {run.shown_id}" in deck.screen[-2]


def test_without_a_terminal_the_console_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a pipe or a cron job there is one clear error, before anything is opened."""
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    with pytest.raises(ConfigError, match="needs a terminal"):
        run_console(Settings(data_dir=tmp_path / "data"))
    assert not (tmp_path / "data").exists()


def test_a_wrong_start_filter_is_refused(tmp_path: Path) -> None:
    """`--filter` with a mistake says so before the screen is taken."""
    with pytest.raises(ValidationError, match="did you mean failed"):
        run_console(Settings(data_dir=tmp_path), filter_text="status:faild")
