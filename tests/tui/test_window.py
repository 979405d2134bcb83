"""The window on a long list: cursor by id, no jumping, new rows counted."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from jobdeck.model import Run
from jobdeck_tui.filters import FilterLine
from jobdeck_tui.window import Place, RunWindow, Seen
from tests.tui.fake_client import NOW, make_run, run_id


def newest_first(*numbers: int, **changes: object) -> list[Run]:
    return [make_run(number, **changes) for number in sorted(numbers, reverse=True)]


def window_of(count: int, *, height: int = 10, page: int = 20, limit: int = 60) -> RunWindow:
    """A window whose head page is loaded from runs 1..count."""
    window = RunWindow(limit=limit, page=page, height=height)
    window.place(window.reset(FilterLine()), newest_first(*range(1, count + 1))[:page])
    return window


def look_again(window: RunWindow, everything: list[Run], later: int = 0) -> None:
    """A look answered from all runs there are, as the feed does it."""
    look = window.look(ahead=5)
    fits = [run for run in everything if window.chosen.matches_status(run.status, run.label)]
    after = next((n + 1 for n, run in enumerate(fits) if run.id == look.after), 0)
    stretch = fits[after : after + look.limit]
    missing = window.missing(look, stretch)
    others = [run for run in everything if run.id in missing]
    newest = next((n for n, run in enumerate(fits) if run.id == look.newest), 0)
    window.merge(Seen(look, stretch, others, newest, False), NOW + timedelta(seconds=later))


def cursor_of(window: RunWindow) -> int | None:
    return window.cursor.id.int & 0xFFFF if window.cursor else None


def shown(window: RunWindow) -> list[int]:
    return [run.id.int & 0xFFFF for run in window.visible]


def test_the_cursor_stays_on_its_run_while_others_arrive() -> None:
    """New runs come in at the top; the run that would be acted on is the same as before."""
    window = window_of(10)
    window.move(2)
    assert cursor_of(window) == 8
    look_again(window, newest_first(*range(1, 14)))
    assert shown(window)[:3] == [13, 12, 11]
    assert cursor_of(window) == 8


def test_a_cursor_pushed_out_of_view_is_on_nothing() -> None:
    """While the list follows, a cursor may slide out; it is then no run at all, until the operator sees it again."""
    window = window_of(20)
    look_again(window, newest_first(*range(1, 41)))
    assert window.following
    assert cursor_of(window) is None
    assert not window.show_cursor()
    assert cursor_of(window) == 40


def test_scrolled_away_new_runs_are_counted_not_shown() -> None:
    """Away from the top nothing moves: new runs are a number."""
    window = window_of(20)
    for _ in range(15):
        window.move(1)
    before = shown(window)
    look_again(window, newest_first(*range(1, 58)))
    assert shown(window) == before
    assert not window.following
    assert window.new == 37


def test_frozen_at_the_top_nothing_comes_in() -> None:
    """A frozen list changes the rows it has and takes in no others."""
    window = window_of(10)
    window.frozen = True
    changed = [replace(make_run(10, status="failed"), revision=2), *newest_first(*range(1, 10))]
    look_again(window, [*newest_first(11, 12), *changed])
    assert shown(window) == list(range(10, 0, -1))
    assert window.rows[0].status == "failed"
    assert window.new == 2


def test_a_row_that_leaves_the_filter_stays_dimmed_for_a_while() -> None:
    """It lingers, then goes; under the cursor it stays until the cursor leaves it."""
    window = RunWindow(height=10, page=20)
    running = newest_first(1, 2, 3, status="running")
    window.place(window.reset(FilterLine(statuses=frozenset({"running"}))), running)
    done = [replace(run, status=make_run().status, label="completed", revision=2) for run in running[:2]]
    look_again(window, [*done, running[2]])
    assert shown(window) == [3, 2, 1]
    assert [window.is_gone(run_id(n)) for n in (3, 2, 1)] == [True, True, False]
    look_again(window, [*done, running[2]], later=6)
    assert shown(window) == [3, 1]
    window.move(1)
    look_again(window, [*done, running[2]], later=12)
    assert shown(window) == [1]


def test_a_row_that_enters_the_filter_appears_in_its_place() -> None:
    """An older run that begins to match shows up among the visible rows, not only new ones at the head."""
    window = RunWindow(height=10, page=20)
    running = newest_first(1, 3, 5, status="running")
    window.place(window.reset(FilterLine(statuses=frozenset({"running"}))), running)
    look_again(window, newest_first(1, 2, 3, 5, status="running"))
    assert shown(window) == [5, 3, 2, 1]


def test_a_burst_larger_than_a_look_starts_the_window_again() -> None:
    """8,000 new runs at once leave no gap in the list that nobody sees."""
    window = window_of(20)
    look_again(window, newest_first(*range(1, 200)))
    numbers = [run.id.int & 0xFFFF for run in window.rows]
    assert numbers == list(range(199, 199 - len(numbers), -1))
    assert not window.at_tail


def test_paging_keeps_the_window_small_and_the_rows_in_order() -> None:
    """Scrolling to the end and back loads pages at the edges and lets the others go."""
    everything = newest_first(*range(1, 301))
    window = window_of(300)
    for _ in range(299):
        window.move(1)
        while (wanted := window.wants()) is not None:
            at = next(n for n, run in enumerate(everything) if run.id == wanted.anchor)
            page = (
                everything[at + 1 : at + 1 + wanted.limit]
                if wanted.place is Place.OLDER
                else everything[max(at - wanted.limit, 0) : at]
            )
            assert window.place(wanted, page)
        assert len(window.rows) <= window.limit
    assert cursor_of(window) == 1
    assert window.at_tail
    assert window.above == 300 - len(window.rows)
    numbers = [run.id.int & 0xFFFF for run in window.rows]
    assert numbers == sorted(numbers, reverse=True)


def test_jumps_to_the_ends() -> None:
    """The oldest page comes by one query; back at the top the list follows again."""
    window = window_of(300)
    wanted = window.go_end()
    assert wanted.place is Place.TAIL
    window.place(wanted, newest_first(*range(1, 21)))
    assert cursor_of(window) == 1
    assert window.above is None
    window.place(window.go_home(), newest_first(*range(281, 301)))
    assert window.following
    assert cursor_of(window) == 300


def test_an_answer_to_an_old_question_is_dropped() -> None:
    """After another filter was chosen neither pages nor looks of the one before are taken in."""
    window = window_of(10)
    look, old = window.look(), window.go_end()
    window.reset(FilterLine(statuses=frozenset({"dead"})))
    assert not window.place(old, newest_first(99))
    assert not window.merge(Seen(look, newest_first(99), [], 0, False), NOW)
    assert 99 not in shown(window)


def test_an_older_reading_never_replaces_a_newer_one() -> None:
    """Two readings may cross; the row keeps the higher revision."""
    window = window_of(3)
    look_again(window, [replace(make_run(3, status="failed"), revision=5), *newest_first(1, 2)])
    look_again(window, newest_first(1, 2, 3))
    assert window.rows[0].status == "failed"


@given(
    st.lists(st.sampled_from(["new", "down", "up", "pgdn", "finish", "freeze", "look", "home"]), max_size=40)
)
def test_whatever_happens_the_cursor_is_where_it_was_put(steps: list[str]) -> None:
    """Only the operator's own moves change the run under the cursor; order and size hold all the time."""
    everything = newest_first(*range(1, 31), status="running")
    window = RunWindow(limit=60, page=20, height=8)
    window.place(window.reset(FilterLine()), everything[:20])
    for step in steps:
        cursor = window.cursor_id
        if step == "new":
            everything.insert(0, make_run(len(everything) + 1, status="running"))
        elif step == "finish":
            everything[2] = replace(everything[2], label="completed", revision=everything[2].revision + 1)
        elif step == "freeze":
            window.frozen = not window.frozen
        elif step == "home":
            window.place(window.go_home(), everything[:20])
        elif step in ("down", "up", "pgdn"):
            window.move({"down": 1, "up": -1, "pgdn": 7}[step])
        look_again(window, everything)
        if step in ("new", "finish", "freeze", "look"):
            assert window.cursor_id == cursor
        assert window.rows == sorted(window.rows, key=lambda run: (run.created_at, run.id), reverse=True)
        assert len({run.id for run in window.rows}) == len(window.rows) <= window.limit
        assert 0 <= window.top <= max(len(window.rows) - window.height, 0)
