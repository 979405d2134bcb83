"""The pure renderers: what the operator reads, at every width, whatever the text."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobdeck.model import Attempt, LogEntry, Progress, Run
from jobdeck.states import FailureKind, Label, Status
from jobdeck_tui.actions import RUNS, TOPICS, Situation
from jobdeck_tui.commands import Commands
from jobdeck_tui.filters import parse_filter
from jobdeck_tui.render import times
from jobdeck_tui.render.confirm import ask, confirm_line
from jobdeck_tui.render.detail import SECTIONS, SUMMARY_LINES, section_bar, section_lines, summary
from jobdeck_tui.render.header import (
    Fleet,
    Freshness,
    Position,
    filter_line,
    group_line,
    position_line,
    title_line,
)
from jobdeck_tui.render.helptext import help_lines
from jobdeck_tui.render.hints import hint_line
from jobdeck_tui.render.logs import log_line
from jobdeck_tui.render.notice import Notice, notice_line
from jobdeck_tui.render.progress import bar, percent_text, short_count
from jobdeck_tui.render.rows import headings, run_row
from jobdeck_tui.render.spans import Line, changed_cells, cut_line, fit, line_width, plain, spread, wrapped
from jobdeck_tui.render.states import WORD_CELLS, look
from tests.tui.fake_client import NOW, make_run
from tests.tui.hostile import CONTROL, EVERYTHING, PAYLOADS

WIDTHS = (20, 40, 60, 79, 80, 110, 120, 200)
ATTEMPT = Attempt(
    1, 7, None, "node1:4711", NOW, NOW + timedelta(seconds=12), "crashed", "lost its lease", None
)


def hostile_run(text: str) -> Run:
    """A run whose every text is hostile."""
    return make_run(
        status="running",
        label="cancelling",
        name=text,
        job_type=text,
        queue=text,
        team=text,
        project=text,
        triggered_by=text,
        progress=Progress(1, 2, message=text),
        cancel_requested_at=NOW,
        cancel_requested_by=text,
        cancel_reason=text,
        error=text,
        traceback=text,
        params={text: text},
        result=text,
        held_reason=text,
        attempts=(replace(ATTEMPT, worker=text, error=text, outcome=text),),
    )


def every_line(run: Run, width: int) -> list[Line]:
    """All that is ever shown of a run."""
    lines = [
        run_row(run, width, NOW),
        *summary(run, width, NOW),
        section_bar(run, "log", "last 200 lines", width),
    ]
    for section in SECTIONS:
        lines += [cut_line(line, width) for line in section_lines(run, section, NOW)]
    lines.append(confirm_line(ask("cancel", run, "c"), width))
    lines.append(cut_line(log_line(LogEntry(1, NOW, run.name, run.name, 1, {run.name: run.name})), width))
    lines.append(notice_line(Notice(run.name, run.name), width))
    lines.append(filter_line(run.name, (), width))
    lines.append(title_line(run.team, run.project, Fleet(1), Freshness(), width))
    return lines


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("payload", PAYLOADS)
def test_nothing_a_terminal_obeys_and_nothing_too_wide(payload: str, width: int) -> None:
    """Every line of a hostile run is inert and fits its width."""
    for line in every_line(hostile_run(PAYLOADS[payload]), width):
        assert not CONTROL.search(plain(line)), plain(line)
        assert line_width(line) <= width


@pytest.mark.parametrize("label", [*Status, *Label])
@pytest.mark.parametrize("width", WIDTHS)
def test_every_state_has_its_word_in_the_row(label: str, width: int) -> None:
    """No state is told by colour alone: glyph and word are there at every width."""
    status = label if label in set(Status) else "pending"
    row = plain(run_row(make_run(status=status, label=label), width, NOW))
    shown = look(label)
    assert row[1] == shown.glyph
    if width >= 40:
        assert shown.word in row
    assert len(shown.word) <= WORD_CELLS
    glyphs = [look(name).glyph for name in (*Status, *Label)]
    assert len(set(glyphs)) == len(glyphs)


def test_a_row_at_80_cells() -> None:
    """Status, id, type, bar, percents, age and message; the columns stand under their headings."""
    run = make_run(
        status="running",
        progress=Progress(180, 290, 0, 20, "Synced 180 users"),
        created_at=NOW - timedelta(minutes=7),
    )
    row = plain(run_row(run, 80, NOW, cursor=True))
    assert row == ">● running    000001 http_sync     ███░░  62%   7m Synced 180 users"
    head = plain(headings(80))
    assert [head.index(word) for word in ("status", "id", "type", "progress", "message")] == [
        3,
        14,
        21,
        35,
        51,
    ]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"status": "failed", "error": "HTTP 500"}, "HTTP 500"),
        ({"status": "pending", "label": "held", "held_reason": "no live worker"}, "no live worker"),
        ({"status": "pending", "label": "scheduled", "due_at": NOW + timedelta(minutes=5)}, "due in 5m"),
        (
            {
                "status": "pending",
                "label": "retrying",
                "due_at": NOW + timedelta(hours=2),
                "error": "HTTP 500",
            },
            "due in 2h after: HTTP 500",
        ),
        (
            {
                "status": "running",
                "label": "cancelling",
                "cancel_requested_at": NOW,
                "cancel_requested_by": "bob",
            },
            "stop asked <10s ago by bob",
        ),
        ({"status": "cancelled", "cancel_requested_by": "bob"}, "by bob"),
        ({"name": "Nightly users", "progress": Progress(message="done")}, "done · Nightly users"),
    ],
)
def test_the_news_of_each_state(changes: dict[str, Any], told: str) -> None:
    """The last column says what matters for this state."""
    assert told in plain(run_row(make_run(**changes), 120, NOW))


def test_the_summary_says_who_asked_to_stop_and_when() -> None:
    """A cancelling run is never shown as cancelled, and the summary has the facts."""
    facts: dict[str, Any] = {
        "cancel_requested_at": NOW - timedelta(seconds=40),
        "cancel_requested_by": "bob",
        "cancel_reason": "late",
    }
    lines = [
        plain(line) for line in summary(make_run(status="running", label="cancelling", **facts), 80, NOW)
    ]
    assert len(lines) == SUMMARY_LINES
    assert lines[1].startswith(" ◐ cancelling")
    assert lines[2] == " stop asked 11:59:20 (40s ago) by bob: late"
    assert not any("cancelled" in line for line in lines)


def test_sections() -> None:
    """Attempts with outcome and worker, params and result as JSON, the error with its traceback."""
    run = make_run(
        status="failed",
        failure_kind=FailureKind.ERROR,
        error="boom",
        traceback="Traceback\n  line 3",
        params={"url": "u"},
        attempts=(ATTEMPT,),
    )

    def text(name: str) -> str:
        return "\n".join(plain(line) for line in section_lines(run, name, NOW))

    assert "crashed" in text("attempts")
    assert "node1:4711" in text("attempts")
    assert "lost its lease" in text("attempts")
    assert '"url": "u"' in text("params")
    assert text("error") == " error: boom\n \n Traceback\n   line 3"
    assert text("result") == " no result"
    assert "no result yet" in plain(section_lines(make_run(status="running"), "result", NOW)[0])


def test_ages_do_not_tick_every_second() -> None:
    """An age changes in steps, at most six times a minute, and never needs more than four cells."""
    seen = [times.age(timedelta(seconds=second)) for second in range(60)]
    assert len(set(seen)) == 6
    for seconds in (0, 59, 60, 3_599, 86_399, 99 * 86_400, 10**9):
        assert len(times.age(timedelta(seconds=seconds))) <= 4


def test_durations_have_a_sensible_precision() -> None:
    """Short ones in fractions of seconds, long ones in days and hours."""
    shown = [times.took(timedelta(seconds=s)) for s in (0.42, 12.34, 245, 12_000, 200_000)]
    assert shown == ["0.42s", "12.3s", "4m05s", "3h20m", "2d07h"]


@given(st.integers(0, 10**7), st.integers(0, 10**7), st.integers(0, 30))
def test_a_bar_is_as_wide_as_asked_and_full_only_at_the_end(processed: int, total: int, width: int) -> None:
    """100 % means all of it; an unknown total shows no bar."""
    progress = Progress(processed, total)
    shown = bar(progress, width)
    assert len(shown) == width
    assert len(percent_text(progress)) <= 4
    if total and processed < total:
        assert percent_text(progress) != "100%"
        assert width == 0 or not shown.endswith("█")


@given(st.integers(0, 10**13))
def test_counts_fit_their_cells(count: int) -> None:
    """In four cells and in three."""
    assert len(short_count(count)) <= 4
    assert len(short_count(count, 3)) <= 3


def test_counts_are_rounded_down() -> None:
    """A count never claims more than there is."""
    assert [short_count(n) for n in (999, 1_000, 1_999, 99_999, 999_999, 1_000_000)] == [
        "999",
        "1.0k",
        "1.9k",
        "99k",
        "999k",
        "1.0M",
    ]
    assert [short_count(n, 3) for n in (1_999, 99_999, 999_999)] == ["1k", "99k", ".9M"]


def test_the_groups_keep_keys_names_and_counts_at_80_cells() -> None:
    """The six keys with names and counts fit 80 cells also with large counts; the chosen one is in brackets."""
    counts = {"completed": 726, "failed": 150, "dead": 34, "cancelled": 90, "pending": 2, "running": 6}
    assert plain(group_line(counts, "failed", 80)) == (
        " 1 all 1.0k 2 pending 2 3 running 6 4 done 726 [5 failed 184] 6 stopped 90"
    )
    assert "[1 all 1.0k]  2 pending 2" in plain(group_line(counts, "all", 120))
    many = {str(status): 123_456 for status in Status}
    assert "6 stopped .1M" in plain(group_line(many, "all", 80))
    assert "[" not in plain(group_line(counts, None, 80))


def test_the_hint_line_never_loses_the_help() -> None:
    """`? help` comes first; what does not fit is left out whole."""
    situation = Situation(run=make_run(status="running"))
    for width in range(8, 100):
        assert plain(hint_line(RUNS, situation, width)).startswith(" ? help")
    assert plain(hint_line(RUNS, situation, 30)) == " ? help  enter open  t trigger"


def test_hints_offer_what_would_do_something() -> None:
    """Cancel for a run that can be cancelled, retry for one that can be retried."""
    running = plain(hint_line(RUNS, Situation(run=make_run(status="running")), 120))
    failed = plain(hint_line(RUNS, Situation(run=make_run(status="failed")), 120))
    assert "c cancel" in running
    assert "r retry" not in running
    assert "r retry" in failed
    assert "c cancel" not in failed
    assert "enter open" not in plain(hint_line(RUNS, Situation(), 120))


def test_the_help_fits_80_cells_and_lists_every_action() -> None:
    """No key is missing in the help and no line of it is cut on a small terminal."""
    text = [plain(line) for line in help_lines()]
    assert max(len(line) for line in text) <= 80
    for topic in TOPICS:
        for action in topic.actions:
            assert any(action.help in line for line in text)


def test_the_question_names_verb_run_type_state_team_and_keeps_its_answers() -> None:
    """What would happen and to what; the answers are never cut off."""
    question = ask("cancel", make_run(status="running"), "c")
    line = plain(confirm_line(question, 80))
    assert line.startswith(" Cancel run 000001 http_sync, running, team acme?")
    for width in (40, 60, 80):
        assert "y yes  N no  w add reason" in plain(confirm_line(replace(question, job_type="x" * 40), width))
    assert "because: late" in plain(confirm_line(replace(question, reason="late"), 120))


def test_the_title_says_how_fresh_it_is() -> None:
    """Live, reading, or stale for so many seconds; and that no worker is there."""
    assert plain(title_line("acme", "web", Fleet(2), Freshness(True), 80)).endswith("2 workers  live ")
    stale = plain(title_line("acme", None, Fleet(0), Freshness(True, 12), 80))
    assert "! stale 12 s - retrying" in stale
    assert "! no worker" in stale


def test_the_position() -> None:
    """Rows of how many, an open end as such, new ones counted."""

    assert plain(position_line(Position(41, 18, 240, exact=False))) == "41-58 of >240 "
    assert plain(position_line(Position(1, 7, 7))) == "1-7 of 7 "
    assert plain(position_line(Position(41, 18, 240, new=37))) == "^ 37 new, g to go  41-58 of 240 "
    assert plain(position_line(Position(1, 1, 1, new=100, new_more=True, frozen=True))) == (
        "^ 100+ new, g to go  frozen, F follows  1-1 of 1 "
    )
    assert plain(position_line(Position(None, 18, 20))) == "oldest runs "
    assert position_line(Position(1, 0, 0)) == ()


def test_commands_do_the_same_as_the_keys() -> None:
    """What is shown can be pasted into a shell; the default team is not named."""
    run = make_run(7)
    assert Commands("default").show(run) == "jobdeck runs show 000007"
    assert Commands("acme").write("cancel", "7f3k2x", "too slow") == (
        "jobdeck runs cancel 7f3k2x --reason 'too slow' --team acme"
    )
    assert Commands("default").trigger("x", {"a": "b'c"}, {"queue": "q"}) == (
        """jobdeck trigger x --params '{"a":"b'"'"'c"}' --queue q"""
    )
    line = Commands("default").list(parse_filter("group:failed type:x since:1h text"))
    assert line == "jobdeck runs list --group failed --type x --since 1h --text text"


@given(st.text(max_size=60), st.integers(4, 30))
def test_wrapping_loses_nothing(text: str, width: int) -> None:
    """The rows of a wrapped line hold all its text and none is too wide."""
    rows = wrapped(((text, "text"),), width, indent=0)
    assert "".join(plain(row) for row in rows) == text
    assert all(line_width(row) <= width for row in rows)


@given(st.text(max_size=60), st.integers(0, 30))
def test_fitting_gives_the_width(text: str, width: int) -> None:
    """Whatever the letters, the result takes exactly the cells it was given."""
    assert line_width(((fit(text, width), "text"),)) == width


@given(st.text(max_size=40), st.text(max_size=40), st.integers(1, 60))
def test_two_ends_fit(left: str, right: str, width: int) -> None:
    """The right end is kept before the left one, and both stay within the width."""
    assert line_width(spread(((left, "a"),), ((right, "b"),), width)) <= width


def test_a_long_log_message_is_cut_with_a_word() -> None:
    """Nothing is cut silently."""
    line = plain(log_line(LogEntry(1, NOW, "info", "x" * 5_000, 1, {"page": 3})))
    assert "and 3000 more characters" in line
    assert line.endswith("page=3")
    assert line.startswith("12:00:00 info  x")


def test_everything_at_once_is_quick() -> None:
    """A screen full of the worst rows is made in no time: a job cannot stall the console by its texts."""
    run = hostile_run(EVERYTHING)
    began = time.perf_counter()
    for _ in range(20):
        run_row(run, 200, NOW)
    assert time.perf_counter() - began < 2


@given(st.text(max_size=30), st.text(max_size=30), st.text(max_size=10))
def test_only_what_changed_is_painted(before: str, after: str, tail: str) -> None:
    """All that differs lies within the painted cells, and an unchanged end is left out."""
    old: Line = ((before, "a"), (tail, "b"))
    new: Line = ((after, "a"), (tail, "b"))
    cells = changed_cells(old, new, 80)
    assert cells <= 80
    if line_width(old) != line_width(new):
        assert cells == 80
    elif before == after:
        assert cells <= 1
    else:
        assert cells <= line_width(((after, "a"),)) + 1


def test_the_changed_cells_of_a_row() -> None:
    """A moved bar leaves the end of the message alone; a new colour counts as a change."""
    assert changed_cells((("ab1cd", "x"),), (("ab2cd", "x"),), 80) == 4
    assert changed_cells((("ab", "x"), ("cd", "y")), (("ab", "z"), ("cd", "y")), 80) == 3
