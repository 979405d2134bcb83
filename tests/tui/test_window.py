"""The window on a long list: cursor by id, no jumping, new rows counted."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from jobdeck.model import Run
from jobdeck_tui.filters import FilterLine
from jobdeck_tui.window import PageWanted, Place, RunWindow, Seen
from tests.tui.fake_client import NOW, make_run, run_id, stretch_of


def newest_first(*numbers: int, **changes: object) -> list[Run]:
    return [make_run(number, **changes) for number in sorted(numbers, reverse=True)]


def window_of(count: int, *, height: int = 10, page: int = 20, limit: int = 60) -> RunWindow:
    """A window whose head page is loaded from runs 1..count."""
    window = RunWindow(limit=limit, page=page, height=height)
    window.place(window.reset(FilterLine()), stretch_of(newest_first(*range(1, count + 1))[:page]))
    return window


def look_again(window: RunWindow, everything: list[Run], later: int = 0, *, looks: int = 10_000) -> None:
    """A look answered from all runs there are, as the feed does it."""

    def fits(run: Run) -> bool:
        text = window.chosen.text or ""
        return window.chosen.matches_status(run.status, run.label) and text in run.name

    look = window.look(ahead=5)
    stretch = stretch_of([], looks=looks)
    if look.limit:
        stretch = stretch_of(everything, fits, looks=looks, after=look.after, limit=look.limit)
    missing = window.missing(look, stretch)
    others = [run for run in everything if run.id in missing]
    newer = stretch_of([], looks=looks)
    if look.newest is not None:
        newer = stretch_of(everything, fits, looks=looks, before=look.newest, limit=101)
    seen = Seen(look, stretch, others, len(newer.runs), newer.stopped is not None)
    window.merge(seen, NOW + timedelta(seconds=later))


def is_needle(run: Run) -> bool:
    return run.name == "needle"


def load(window: RunWindow, wanted: PageWanted | None, everything: list[Run], *, looks: int = 10_000) -> int:
    """Load a page and every one wanted after it, as the view does it; how many."""
    pages = 0
    while wanted is not None:
        stretch = stretch_of(
            everything,
            is_needle if window.chosen.text else lambda run: True,
            looks=looks,
            after=wanted.anchor if wanted.place is Place.OLDER else None,
            before=wanted.anchor if wanted.place is Place.NEWER else None,
            last=wanted.place is Place.TAIL,
            limit=wanted.limit,
        )
        assert window.place(wanted, stretch)
        wanted = window.wants()
        pages += 1
    return pages


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
    window.place(window.reset(FilterLine(statuses=frozenset({"running"}))), stretch_of(running))
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
    window.place(window.reset(FilterLine(statuses=frozenset({"running"}))), stretch_of(running))
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
        load(window, window.wants(), everything)
        assert len(window.rows) <= window.limit
    assert cursor_of(window) == 1
    assert window.at_tail
    assert window.above == 300 - len(window.rows)
    numbers = [run.id.int & 0xFFFF for run in window.rows]
    assert numbers == sorted(numbers, reverse=True)


def needles(count: int, every: int) -> list[Run]:
    """Runs of which each `every`th is called needle."""
    return [
        make_run(number, name="needle" if number % every == 0 else "hay") for number in range(count, 0, -1)
    ]


NEEDLE = FilterLine(text="needle")


def test_a_search_goes_on_where_a_page_was_broken_off() -> None:
    """Page by page down to the end of the list: every match is there, and meanwhile it says how far it came."""
    everything = needles(490, every=100)
    window = RunWindow(height=10, page=20)
    window.place(window.reset(NEEDLE), stretch_of(everything, is_needle, looks=50))
    assert (window.rows, window.at_tail) == ([], False)
    assert window.searched_to == everything[49].created_at
    load(window, window.wants(), everything, looks=50)
    assert [run.id for run in window.rows] == [run_id(number) for number in (400, 300, 200, 100)]
    assert window.at_tail
    assert window.searched_to is None


def test_a_search_stops_where_the_screen_is_full_and_goes_on_when_scrolled() -> None:
    """What nobody looks at is not searched for."""
    everything = needles(5_000, every=10)
    window = RunWindow(height=10, page=20)
    first = load(window, window.reset(NEEDLE), everything, looks=50)
    assert first < 20
    assert window.searched_to is not None
    for _ in range(500):
        window.move(1)
        load(window, window.wants(), everything, looks=50)
    assert window.at_tail
    assert cursor_of(window) == 10


def test_the_oldest_matches_are_searched_upward() -> None:
    """At the end of the list, what is above is found page by page too."""
    everything = needles(500, every=100)
    window = RunWindow(height=10, page=20)
    load(window, window.reset(NEEDLE), everything, looks=50)
    load(window, window.go_end(), everything, looks=50)
    assert [run.id for run in window.rows] == [run_id(number) for number in (500, 400, 300, 200, 100)]
    assert window.at_head


def test_new_matches_come_in_although_old_ones_are_far_down() -> None:
    """A look that does not reach down to the rows that are shown still brings what is new, once."""
    everything = needles(500, every=100)
    window = RunWindow(height=10, page=20)
    load(window, window.reset(NEEDLE), everything, looks=50)
    everything = [make_run(number, name="hay") for number in range(540, 500, -1)] + everything
    everything.insert(0, make_run(541, name="needle"))
    look_again(window, everything, looks=50)
    assert shown(window) == [541, 500, 400, 300, 200, 100]
    assert window.following
    assert window.wants() is None


def test_more_new_runs_than_a_look_looks_at_leave_no_gap() -> None:
    """What lies between is searched, page by page, until the list is followed again."""
    everything = needles(500, every=100)
    window = RunWindow(height=10, page=20)
    load(window, window.reset(NEEDLE), everything, looks=50)
    everything = needles(2_000, every=100)
    look_again(window, everything, looks=50)
    assert not window.following
    load(window, window.wants(), everything, looks=50)
    assert shown(window)[:10] == list(range(2_000, 1_000, -100))
    assert window.at_head


def test_what_is_new_is_counted_from_where_all_was_looked_at() -> None:
    """Frozen with old matches, a burst of others is no news; more than a look looks at may be."""
    everything = needles(500, every=100)
    window = RunWindow(height=10, page=20)
    load(window, window.reset(NEEDLE), everything, looks=50)
    window.frozen = True
    everything = [make_run(number, name="hay") for number in range(520, 500, -1)] + everything
    look_again(window, everything, looks=50)
    assert (window.new, window.new_more) == (0, False)
    look_again(window, needles(900, every=530), looks=50)
    assert (window.new, window.new_more) == (1, True)


def test_jumps_to_the_ends() -> None:
    """The oldest page comes by one query; back at the top the list follows again."""
    window = window_of(300)
    wanted = window.go_end()
    assert wanted.place is Place.TAIL
    window.place(wanted, stretch_of(newest_first(*range(1, 21))))
    assert cursor_of(window) == 1
    assert window.above is None
    window.place(window.go_home(), stretch_of(newest_first(*range(281, 301))))
    assert window.following
    assert cursor_of(window) == 300


def test_an_answer_to_an_old_question_is_dropped() -> None:
    """After another filter was chosen neither pages nor looks of the one before are taken in."""
    window = window_of(10)
    look, old = window.look(), window.go_end()
    window.reset(FilterLine(statuses=frozenset({"dead"})))
    assert not window.place(old, stretch_of(newest_first(99)))
    assert not window.merge(Seen(look, stretch_of(newest_first(99)), [], 0, False), NOW)
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
    window.place(window.reset(FilterLine()), stretch_of(everything[:20]))
    for step in steps:
        cursor = window.cursor_id
        if step == "new":
            everything.insert(0, make_run(len(everything) + 1, status="running"))
        elif step == "finish":
            everything[2] = replace(everything[2], label="completed", revision=everything[2].revision + 1)
        elif step == "freeze":
            window.frozen = not window.frozen
        elif step == "home":
            window.place(window.go_home(), stretch_of(everything[:20]))
        elif step in ("down", "up", "pgdn"):
            window.move({"down": 1, "up": -1, "pgdn": 7}[step])
        look_again(window, everything)
        if step in ("new", "finish", "freeze", "look"):
            assert window.cursor_id == cursor
        assert window.rows == sorted(window.rows, key=lambda run: (run.created_at, run.id), reverse=True)
        assert len({run.id for run in window.rows}) == len(window.rows) <= window.limit
        assert 0 <= window.top <= max(len(window.rows) - window.height, 0)
