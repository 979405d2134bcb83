"""The console in a real pseudo-terminal: what bytes reach the terminal, and that its keys work."""

from __future__ import annotations

import re
import signal
from pathlib import Path

from tests.tui.hostile import CONTROL
from tests.tui.terminal import Terminal, terminal

PROGRAM = ("-m", "tests.tui.hostile_console")

OWN = re.compile(
    rb"\x1b\[[0-9;]*m"  # styles
    rb"|\x1b\[[0-9;]*H"  # moving the cursor
    rb"|\x1b\[\?(?:1049|25|1004|2004|2026|2048|7)[hl]"  # screen, cursor, focus, paste, sync, sizes, wrap
    rb"|\x1b\[\?20(?:26|48)\$p"  # asking for sync and sizes
    rb"|\x1b\[[<>][0-9;]*u"  # keyboard protocol
    rb"|\x1b\]22;[a-z]*\x07"  # shape of the pointer
    rb"|[\r\n]"
)
"""All that the console itself may send beside text."""


def assert_inert(raw: bytes) -> None:
    """Beside what the console sends itself, there is text and nothing that a terminal obeys."""
    left = OWN.sub(b"", raw).decode("utf-8")
    found = CONTROL.search(left)
    assert found is None, repr(left[max(found.start() - 40, 0) : found.end() + 40])
    # The payloads' own sequences, where they look like ones the console sends.
    for forged in (b"\x1b[31m", b"\x1b[2J", b"\x1b[H", b"\x1b[?1000h", b"OWNED-TITLE\x07", b"\x1b]52"):
        assert forged not in raw


def open_list(on: Terminal) -> None:
    """Until the list is there."""
    on.until(lambda: "live" in on.text and ">" in on.text)


def test_hostile_texts_reach_the_terminal_as_text(tmp_path: Path) -> None:
    """Every payload in every field, through every view: no byte of it is obeyed, and the keys still work."""
    with terminal(*PROGRAM, str(tmp_path)) as on:
        open_list(on)
        on.send(b"G")
        on.until(lambda: "7-24 of 24" in on.text)
        assert "[/] [/red] [/" in on.text
        assert "[@click=app.quit_" in on.text
        assert "[bold red]loud" in on.text
        on.send(b"k")
        on.until(lambda: any(line.startswith(">") and "000002" in line for line in on.screen.display))
        on.send(b"g")
        on.until(lambda: "1-18 of 24" in on.text)
        on.send(b"\r")
        on.until(lambda: "[log]" in on.text and "following" in on.text)
        for section in ("attempts 1", "params", "result", "error"):
            on.send(b"\t")
            on.until(lambda section=section: f"[{section}]" in on.text)  # type: ignore[misc]
        on.send(b"w")
        on.send(b"c")
        on.until(lambda: "y yes  N no" in on.text)
        on.until(lambda: "no, nothing done" in on.text, again=b"n")
        on.send(b"t")
        # Every label, by what reaches the terminal: what is painted may differ from what the widgets hold.
        on.until(
            lambda: all(f" {name} " in on.text for name in ("table", "mode", "key")) and ">*url" in on.text
        )
        on.send(b"\x1b")
        on.until(lambda: "[error]" in on.text)
        on.send(b"h")
        on.until(lambda: "1-18 of 24" in on.text)
        on.send(b"t")
        on.until(lambda: "choose a job type" in on.text and "http_sync" in on.text)
        on.send(b"\r")
        on.until(lambda: "options of the run" in on.text)
        on.send(b"\x1b")
        on.until(lambda: "1-18 of 24" in on.text)
        assert "OWNED" not in on.screen.title
        assert b"\x1b[?1049l" not in on.raw
        assert b"\x1b[?1000h" not in on.raw
        on.send(b"q")
        assert on.exit_code() == 0
        assert_inert(bytes(on.raw))
        assert on.raw.count(b"\x1b[?1049l") == 1


def test_bytes_that_are_no_keys_leave_the_keys_working(tmp_path: Path) -> None:
    """An old mouse report as tmux sends it after a reattach, and bytes that are no text: the next key still counts."""
    with terminal(*PROGRAM, str(tmp_path)) as on:
        open_list(on)
        on.send(b"\x1b[M \xc8\xc9\xff\xfe")
        on.send(b"j")
        on.until(lambda: on.screen.display[5].startswith(">"))
        on.send(b"q")
        assert on.exit_code() == 0


def test_a_signal_ends_it_and_gives_the_terminal_back(tmp_path: Path) -> None:
    """SIGTERM leaves the other screen, shows the cursor and ends with the signal's exit code."""
    with terminal(*PROGRAM, str(tmp_path)) as on:
        open_list(on)
        on.process.send_signal(signal.SIGTERM)
        assert on.exit_code() == 128 + signal.SIGTERM
        assert on.raw.count(b"\x1b[?1049l") == 1
        assert on.raw.rstrip().endswith((b"h", b"l", b"u"))
        assert b"\x1b[?25h" in on.raw[-200:]


def test_keys_in_one_piece(tmp_path: Path) -> None:
    """A slow line delivers `/queue:c` and Enter in one piece: they are a filter and nothing else."""
    with terminal(*PROGRAM, str(tmp_path)) as on:
        open_list(on)
        on.send(b"/queue:cq\r")
        on.until(lambda: "filter queue:cq" in on.text)
        on.send(b"q")
        assert on.exit_code() == 0
