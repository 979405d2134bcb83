"""What reaches the terminal: aligned, bounded, inert."""

from __future__ import annotations

from datetime import timedelta

import pytest
from rich.cells import cell_len

from jobdeck.cli.human import bar, progress_text, span_text
from jobdeck.cli.output import emit, emit_block, emit_json, say
from jobdeck.cli.table import table_lines
from jobdeck.model import Progress

HOSTILE = "A\x1b]0;title\x07B\x1b[2J\x9b31m\x1b]52;c;ZXZpbA==\x07\u202eC\u200b\x7f\rD"


@pytest.mark.parametrize("write", [emit, emit_block, say, lambda text: emit_json({"key": text, text: 1})])
def test_no_control_character_leaves(write: object, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither as data nor as talk nor inside JSON can a job's text steer the terminal."""
    write(HOSTILE)  # type: ignore[operator]
    out, err = capsys.readouterr()
    assert all(char == "\n" or char.isprintable() for char in out + err)
    assert "\x1b" not in out + err


def test_a_table_is_inert_and_as_wide_as_it_may_be() -> None:
    """Cells are cleaned, wide characters are measured, columns give way in the order asked for."""
    rows = [("7f3k2x", "running", HOSTILE), ("aaaaaa", "日本語のジョブ名", "x" * 300)]
    lines = list(table_lines(("ID", "STATUS", "MESSAGE"), rows, shrink=(2, 1), width=40))
    assert all(cell_len(line) <= 40 for line in lines)
    assert all(line.isprintable() for line in lines)
    assert lines[1].startswith("7f3k2x  running")
    unbounded = list(table_lines(("ID", "STATUS", "MESSAGE"), rows, shrink=(2,), width=None))
    assert unbounded[2].endswith("x" * 300)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0s"),
        (9.94, "9.9s"),
        (59, "59s"),
        (60, "1m"),
        (192, "3m12s"),
        (7_500, "2h5m"),
        (345_600, "4d"),
        (-5, "0.0s"),
    ],
)
def test_spans_have_two_units(seconds: float, text: str) -> None:
    """Short, and exact enough."""
    assert span_text(timedelta(seconds=seconds)) == text


def test_a_bar_is_full_only_at_the_end() -> None:
    """99.9 % never looks like done."""
    almost = Progress(processed=999, total=1_000)
    assert progress_text(almost) == "999/1000 99%"
    assert bar(almost) == "[" + "#" * 19 + "-]"
    assert bar(Progress(processed=5)) == ""
