"""The console driven by keys at 80x24: what is on the screen, and what reached the client."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from textual import events
from textual.strip import Strip

from jobdeck.errors import DatabaseUnavailable
from jobdeck.model import Progress
from jobdeck_tui.filters import parse_filter
from jobdeck_tui.widgets.confirm_bar import ConfirmBar
from jobdeck_tui.widgets.run_table import RunTable
from tests.tui.conftest import OpenDeck
from tests.tui.fake_client import NOW, FakeClient, make_run, make_worker, run_id


def _key(key: str) -> events.Key:
    return events.Key(key, key if len(key) == 1 else None)


async def test_an_empty_team_says_what_to_do(open_deck: OpenDeck) -> None:
    """No run at all: the team is named and the key that makes one."""
    async with open_deck() as deck:
        assert "No runs in team acme yet. Press t to trigger one." in deck.text
        assert deck.screen[0].startswith(" jobdeck  team acme  project web")
        assert deck.screen[0].endswith("1 worker  live")


async def test_a_missing_worker_is_shown(open_deck: OpenDeck, client: FakeClient) -> None:
    """With no live worker the title says so; a stopped one is none."""
    client.workers.all = [make_worker(state="stopped")]
    async with open_deck() as deck:
        assert "! no worker" in deck.screen[0]


async def test_the_list_shows_the_newest_first_with_counts(open_deck: OpenDeck, client: FakeClient) -> None:
    """Rows, counts by group, position and hints, all within 24 lines."""
    client.runs.put(*(make_run(number) for number in range(1, 31)), make_run(31, status="running"))
    async with open_deck() as deck:
        assert len(deck.screen) == 24
        assert "00000z" in deck.cursor_line()
        assert "[1 all 31]" in deck.screen[1]
        assert "3 running 1" in deck.screen[1]
        assert deck.screen[2].endswith("1-18 of 31")
        assert deck.screen[-1].startswith(" ? help  enter open  t trigger  c cancel")


async def test_a_change_is_on_the_screen_after_a_look(open_deck: OpenDeck, client: FakeClient) -> None:
    """The bar moves, a new run comes in at the top and the cursor stays on its run."""
    run = make_run(1, status="running", progress=Progress(10, 100))
    client.runs.put(run)
    async with open_deck() as deck:
        assert "10%" in deck.cursor_line()
        client.runs.put(replace(run, progress=Progress(62, 100)), make_run(2, status="pending"))
        await deck.settle()
        assert "62%" in deck.cursor_line()
        assert "000001" in deck.cursor_line()
        assert "000002" in deck.screen[4]


async def test_only_changed_rows_are_painted(
    open_deck: OpenDeck, client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look that changes one row paints that row; one that changes none paints nothing."""
    client.runs.put(*(make_run(number, status="running") for number in range(1, 11)))
    async with open_deck() as deck:
        painted: list[int] = []
        render = RunTable.render_line

        def recorded(table: RunTable, y: int) -> Strip:
            painted.append(y)
            return render(table, y)

        monkeypatch.setattr(RunTable, "render_line", recorded)
        await deck.settle()
        assert painted == []
        client.runs.put(replace(make_run(7, status="running"), progress=Progress(1, 2)))
        await deck.settle()
        assert set(painted) == {3}


async def test_moving_and_paging(open_deck: OpenDeck, client: FakeClient) -> None:
    """j, k, page keys, G and g; the far end comes by itself."""
    client.runs.put(*(make_run(number) for number in range(1, 501)))
    async with open_deck() as deck:
        await deck.press("j", "j", "k")
        assert deck.cursor_line() == deck.screen[5]
        await deck.press("G")
        assert "000001" in deck.cursor_line()
        assert "oldest runs" in deck.screen[2]
        await deck.press("g")
        assert deck.cursor_line() == deck.screen[4]
        for _ in range(6):
            await deck.press(*["pagedown"] * 6)
        assert "000001" in deck.cursor_line()
        await deck.press("g")
        assert deck.screen[2].endswith("1-18 of 500")


async def test_status_keys_and_escape(open_deck: OpenDeck, client: FakeClient) -> None:
    """5 shows the failed group, the filter line and the command say so, escape clears."""
    client.runs.put(make_run(1), make_run(2, status="failed"), make_run(3, status="dead"))
    async with open_deck() as deck:
        await deck.press("5")
        assert "[5 failed 2]" in deck.screen[1]
        assert "filter group:failed" in deck.screen[2]
        assert "jobdeck runs list --group failed --team acme" in deck.screen[-2]
        assert deck.screen[2].endswith("1-2 of 2")
        await deck.press("escape")
        assert "filter none" in deck.screen[2]
        assert deck.screen[2].endswith("1-3 of 3")


async def test_a_search_through_a_long_history(open_deck: OpenDeck, client: FakeClient) -> None:
    """Pages that look at a few runs each come one after another; meanwhile the screen says how far they came."""
    client.runs.put(*(make_run(number) for number in range(2, 501)), make_run(1, name="needle"))
    client.runs.looks = 40
    async with open_deck() as deck:
        await deck.press("slash")
        await deck.type("needle")
        client.runs.going_on.clear()
        await deck.pilot.press("enter")
        await deck.pilot.pause()
        assert "searched back to" in deck.screen[5]
        client.runs.going_on.set()
        while "000001" not in deck.cursor_line():
            await deck.settle()
        assert deck.screen[2].endswith("1-1 of 1")


async def test_filtering_by_a_line(open_deck: OpenDeck, client: FakeClient) -> None:
    """The line after `/` narrows the list; a filter without matches says itself and how to be rid of it."""
    client.runs.put(make_run(1), make_run(2, job_type="noop", name="Noop"))
    async with open_deck() as deck:
        await deck.press("slash")
        await deck.type("type:noop")
        await deck.press("enter")
        assert "000002" in deck.cursor_line()
        assert deck.screen[2].endswith("1-1 of 1")
        await deck.press("slash")
        await deck.type("zebra")
        await deck.press("enter")
        assert "No runs of team acme match type:noop zebra   esc clears the filter" in deck.text


async def test_a_wrong_filter_leaves_the_old_one(open_deck: OpenDeck, client: FakeClient) -> None:
    """The mistake is named and the list stays as it was."""
    client.runs.put(make_run(1))
    async with open_deck() as deck:
        await deck.press("slash")
        await deck.type("stauts:failed")
        await deck.press("enter")
        assert "! unknown field 'stauts'; did you mean status:?" in deck.screen[-2]
        assert "filter none" in deck.screen[2]
        assert "000001" in deck.cursor_line()


async def test_the_filter_line_completes_words(open_deck: OpenDeck) -> None:
    """Tab takes the completion: fields, statuses, the registered types."""
    async with open_deck() as deck:
        await deck.press("slash")
        await deck.type("ty")
        await deck.press("tab")
        await deck.type("ht")
        await deck.press("tab")
        assert "filter: " in deck.screen[-1]
        assert "type:http_sync" in deck.screen[-1]


async def test_keys_typed_in_one_go_never_reach_the_list(open_deck: OpenDeck, client: FakeClient) -> None:
    """Over a slow line `/queue:c` comes in one piece: no letter of it may quit, cancel or freeze."""
    client.runs.put(make_run(1, status="running", queue="critical"))
    async with open_deck() as deck:
        for key in ("slash", *"queue:critical", "enter", "j"):
            deck.console.post_message(_key(key))
        await deck.settle()
        await deck.settle()
        assert deck.console.is_running
        assert "filter queue:critical" in deck.screen[2]
        assert deck.console.query_one(ConfirmBar).question is None


async def test_a_start_filter(open_deck: OpenDeck, client: FakeClient) -> None:
    """A runbook can link to a screen: the console opens under a filter."""
    client.runs.put(make_run(1), make_run(2, status="failed"))
    async with open_deck(chosen=parse_filter("status:failed")) as deck:
        assert "filter status:failed" in deck.screen[2]
        assert deck.screen[2].endswith("1-1 of 1")


async def test_opening_a_run(open_deck: OpenDeck, client: FakeClient) -> None:
    """Enter: id, status, bar, counts, message, placement, who and when; the tail of the log grows live."""
    run = make_run(
        1,
        status="running",
        progress=Progress(180, 290, 2, 20, "Synced 180 users, 20 skipped"),
        params={"url": "u"},
    )
    client.runs.put(run)
    client.runs.say(run.id, "first line", "second line")
    async with open_deck() as deck:
        await deck.press("enter")
        assert run.shown_id in deck.screen[1]
        assert (
            "● running  ████████████░░░░░░░░ 62%  180/290 failed 2 skipped 20  Synced 180" in deck.screen[2]
        )
        assert "team acme  project web  queue default  attempt 1/3" in deck.screen[4]
        assert "by manual:alice" in deck.screen[6]
        assert "second line" in deck.screen[10]
        client.runs.say(run.id, "third line")
        await deck.settle()
        assert "third line" in deck.screen[11]
        assert "$ jobdeck runs show 000001 --team acme" in deck.screen[-2]
        assert "all 3 lines, following" in deck.screen[8]


async def test_sections_and_the_way_back(open_deck: OpenDeck, client: FakeClient) -> None:
    """Tab goes through the sections; h goes back to the same run under the same filter."""
    client.runs.put(*(make_run(number, params={"n": number}, result={"ok": 1}) for number in range(1, 6)))
    async with open_deck() as deck:
        await deck.press("4", "j", "j", "enter", "tab", "tab")
        assert "[params]" in deck.text
        assert '"n": 3' in deck.text
        await deck.press("tab")
        assert '"ok": 1' in deck.text
        await deck.press("h")
        assert "000003" in deck.cursor_line()
        assert "filter status:completed" in deck.screen[2]


async def test_cancelling_a_running_run(open_deck: OpenDeck, client: FakeClient) -> None:
    """c asks, y does it; the screen says cancelling since when and by whom, and cancelled only when it is true."""
    run = make_run(1, status="running")
    client.runs.put(run)
    async with open_deck() as deck:
        await deck.press("enter", "c")
        assert "Cancel run 000001 http_sync, running, team acme?" in deck.screen[-1]
        await deck.after_guard()
        await deck.press("y")
        assert client.runs.cancelled == [(run.id, None)]
        assert "◐ cancelling" in deck.screen[2]
        assert "stop asked 12:00:00 (<10s ago) by alice" in deck.screen[3]
        assert "stop asked, still running  $ jobdeck runs cancel 000001" in deck.screen[-2]
        assert "■ cancelled" not in deck.text
        client.runs.put(
            replace(client.runs.by_id[run.id], status=make_run(status="cancelled").status, label="cancelled")
        )
        await deck.settle()
        assert "■ cancelled" in deck.screen[2]


async def test_a_reason_for_the_cancel(open_deck: OpenDeck, client: FakeClient) -> None:
    """w asks for a reason, which answers nothing yet; the command shows it."""
    run = make_run(1, status="running")
    client.runs.put(run)
    async with open_deck() as deck:
        await deck.press("c")
        await deck.after_guard()
        await deck.press("w")
        await deck.type("too slow")
        await deck.press("enter")
        assert "because: too slow" in deck.screen[-1]
        assert client.runs.cancelled == []
        await deck.after_guard()
        await deck.press("y")
        assert client.runs.cancelled == [(run.id, "too slow")]
        assert "--reason 'too slow'" in deck.screen[-2]


@pytest.mark.parametrize("key", ["enter", "escape", "n", "q", "h"])
async def test_no_is_the_default(open_deck: OpenDeck, client: FakeClient, key: str) -> None:
    """Everything that people press without reading is a no, and acts on nothing else."""
    client.runs.put(make_run(1, status="running"))
    async with open_deck() as deck:
        await deck.press("c")
        await deck.after_guard()
        await deck.press(key)
        assert client.runs.cancelled == []
        assert deck.console.is_running
        assert "cancel 000001: no, nothing done" in deck.screen[-2]
        assert deck.focused is deck.runs.table


async def test_early_and_repeated_keys_do_not_confirm(open_deck: OpenDeck, client: FakeClient) -> None:
    """Keys within 300 ms, the opener repeating itself and keys with other meanings leave the question open."""
    client.runs.put(make_run(1, status="running"))
    async with open_deck() as deck:
        await deck.press("c", "y", "y", "enter")
        assert client.runs.cancelled == []
        await deck.after_guard()
        await deck.press("c", "c", "t", "question_mark", "j", "5", "tab")
        assert "Cancel run 000001" in deck.screen[-1]
        await deck.press("y")
        assert len(client.runs.cancelled) == 1


async def test_the_question_is_about_the_run_it_was_asked_for(
    open_deck: OpenDeck, client: FakeClient
) -> None:
    """Runs that arrive while the question is open do not change which run is cancelled."""
    client.runs.put(make_run(1, status="running"))
    async with open_deck() as deck:
        await deck.press("c")
        client.runs.put(*(make_run(number, status="running") for number in range(2, 40)))
        await deck.settle()
        await deck.after_guard()
        await deck.press("y")
        assert client.runs.cancelled == [(run_id(1), None)]


async def test_a_cursor_out_of_sight_acts_on_nothing(open_deck: OpenDeck, client: FakeClient) -> None:
    """The run slid out of view while the list followed: the key first shows where the cursor is now."""
    client.runs.put(make_run(1, status="running"))
    async with open_deck() as deck:
        client.runs.put(*(make_run(number, status="running") for number in range(2, 30)))
        await deck.settle()
        await deck.press("c")
        assert deck.console.query_one(ConfirmBar).question is None
        assert "the cursor was out of sight" in deck.screen[-2]
        assert deck.cursor_line()


async def test_what_cannot_be_done_is_said(open_deck: OpenDeck, client: FakeClient) -> None:
    """Cancel of an ended run and a second cancel ask nothing and say why."""
    facts: dict[str, Any] = {"label": "cancelling", "cancel_requested_at": NOW, "cancel_requested_by": "bob"}
    client.runs.put(make_run(1), make_run(2, status="running", **facts))
    async with open_deck() as deck:
        await deck.press("c")
        assert "cannot cancel: run 000002 was already asked to stop" in deck.screen[-2]
        await deck.press("j", "c")
        assert "cannot cancel: run 000001 is completed" in deck.screen[-2]


async def test_retrying_a_failed_run(open_deck: OpenDeck, client: FakeClient) -> None:
    """r asks, y puts it back to pending."""
    client.runs.put(make_run(1, status="failed"))
    async with open_deck() as deck:
        await deck.press("r")
        assert "Retry run 000001" in deck.screen[-1]
        await deck.after_guard()
        await deck.press("y")
        assert client.runs.retried == [run_id(1)]
        assert "○ pending" in deck.cursor_line()


async def test_approving_what_is_shown(open_deck: OpenDeck, client: FakeClient) -> None:
    """An open run that awaits approval offers it; approved is what was on the screen when the key was pressed."""
    run = replace(make_run(1, status="awaiting_approval"), request_hash="abc", requires_approval=True)
    client.runs.put(run)
    async with open_deck() as deck:
        assert "waits for approval" in deck.cursor_line()
        await deck.press("a")
        assert "Approve" not in deck.screen[-1]
        await deck.press("enter")
        assert "a approve" in deck.screen[-1]
        await deck.press("a")
        assert "Approve run 000001" in deck.screen[-1]
        client.runs.put(replace(run, request_hash="changed"))
        await deck.after_guard()
        await deck.press("y")
        assert client.runs.decided == [("approve", run.id, None, "abc")]
        assert "approved, now pending  $ jobdeck runs approve 000001" in deck.screen[-2]


async def test_rejecting_needs_a_reason(open_deck: OpenDeck, client: FakeClient) -> None:
    """A yes asks for the reason first; with it the run is rejected, and says so."""
    run = replace(make_run(1, status="awaiting_approval"), requires_approval=True)
    client.runs.put(run)
    async with open_deck() as deck:
        await deck.press("enter", "x")
        assert "yes" not in deck.screen[-1]
        await deck.after_guard()
        await deck.press("y")
        assert client.runs.decided == []
        await deck.type("not now")
        await deck.press("enter")
        await deck.after_guard()
        await deck.press("y")
        assert client.runs.decided == [("reject", run.id, "not now", None)]
        assert "rejected by alice: not now" in deck.text


async def test_a_lost_database_keeps_the_rows(open_deck: OpenDeck, client: FakeClient) -> None:
    """Rows stay, the title says stale, and when it is back the screen is live again."""
    client.runs.put(make_run(1))
    async with open_deck() as deck:
        client.runs.broken = DatabaseUnavailable("the database cannot be reached")
        await deck.settle()
        assert "! stale 0 s - retrying" in deck.screen[0]
        assert "! the database cannot be reached" in deck.screen[-2]
        assert "000001" in deck.cursor_line()
        client.runs.broken = None
        await deck.settle()
        assert deck.screen[0].endswith("live")


async def test_freezing(open_deck: OpenDeck, client: FakeClient) -> None:
    """F holds the list still and counts what is new; F again shows it."""
    client.runs.put(make_run(1))
    async with open_deck() as deck:
        await deck.press("F")
        client.runs.put(make_run(2), make_run(3))
        await deck.settle()
        assert "^ 2 new, g to go  frozen, F follows" in deck.screen[2]
        assert "000003" not in deck.text
        await deck.press("F")
        assert "000003" in deck.screen[4]


async def test_the_help_lists_the_keys_and_goes_back(open_deck: OpenDeck, client: FakeClient) -> None:
    """? opens the help over any view and leads back to it; the help can be searched."""
    client.runs.put(make_run(1))
    async with open_deck() as deck:
        await deck.press("enter", "question_mark")
        assert "List of runs" in deck.text
        await deck.press("slash")
        await deck.type("stalled")
        await deck.press("enter")
        assert "! stalled" in deck.text
        await deck.press("question_mark")
        assert "[log]" in deck.text


async def test_a_log_from_its_beginning(open_deck: OpenDeck, client: FakeClient) -> None:
    """The tail comes first; g reads the beginning, scrolling goes on from there, G is back at the end."""
    run = make_run(1, status="running")
    client.runs.put(run)
    client.runs.say(run.id, *(f"entry {n:04}" for n in range(1, 1_201)))
    async with open_deck() as deck:
        await deck.press("enter")
        assert "entry 1200" in deck.text
        await deck.press("g")
        assert "entry 0001" in deck.text
        assert "first 500 lines" in deck.screen[8]
        for _ in range(8):
            await deck.press(*["pagedown"] * 8)
        assert "entry 0700" in "\n".join(
            "".join(text for text, _ in line) for line in deck.run.log_view.lines
        )
        await deck.press("G")
        assert "entry 1200" in deck.text
        client.runs.say(run.id, "entry 1201")
        await deck.settle()
        assert "entry 1201" in deck.text


async def test_a_log_that_is_not_followed_stays_where_it_is(open_deck: OpenDeck, client: FakeClient) -> None:
    """Scrolled up, new entries do not move the lines that are being read."""
    run = make_run(1, status="running")
    client.runs.put(run)
    client.runs.say(run.id, *(f"entry {n:04}" for n in range(1, 101)))
    async with open_deck() as deck:
        await deck.press("enter", "pageup")
        before = deck.screen[9:21]
        client.runs.say(run.id, *(f"later {n}" for n in range(50)))
        await deck.settle()
        assert deck.screen[9:21] == before
        await deck.press("F")
        assert "later 49" in deck.text


async def test_searching_and_wrapping_a_log(open_deck: OpenDeck, client: FakeClient) -> None:
    """/ finds, n goes on, a missing word is said; w shows all of a long line."""
    run = make_run(1)
    client.runs.put(run)
    client.runs.say(run.id, "needle one", *("hay" for _ in range(60)), "needle two", "x" * 100 + "END")
    async with open_deck() as deck:
        await deck.press("enter", "slash")
        await deck.type("needle")
        await deck.press("enter")
        assert "'needle' in line" in deck.screen[-2]
        await deck.press("n")
        assert "needle one" in deck.text
        await deck.press("N")
        assert "needle two" in deck.text
        await deck.press("G")
        assert "END" not in deck.text
        await deck.press("w")
        assert "END" in deck.text


async def test_quitting(open_deck: OpenDeck) -> None:
    """q at home and ^c anywhere leave with exit code 0."""
    async with open_deck() as deck:
        await deck.pilot.press("q")
        await deck.pilot.pause()
        assert deck.console.return_value == 0
    async with open_deck() as deck:
        await deck.pilot.press("slash", "ctrl+c")
        await deck.pilot.pause()
        assert deck.console.return_value == 0


async def test_a_blurred_terminal_is_looked_at_less_often(open_deck: OpenDeck) -> None:
    """The feed learns that nobody is looking, and that somebody is again."""
    async with open_deck() as deck:
        deck.console.post_message(events.AppBlur())
        await deck.pilot.pause()
        assert deck.console.feed.slowness == 4
        deck.console.post_message(events.AppFocus())
        await deck.pilot.pause()
        assert deck.console.feed.slowness == 1


@pytest.mark.parametrize("size", [(20, 5), (40, 10), (80, 24), (200, 60)])
async def test_every_size_works(open_deck: OpenDeck, client: FakeClient, size: tuple[int, int]) -> None:
    """No terminal is too small; every view fits and none fails."""
    client.runs.put(*(make_run(number, status="running") for number in range(1, 100)))
    async with open_deck(size=size) as deck:
        for keys in (
            ("G", "g"),
            ("enter",),
            ("tab",),
            ("h",),
            ("t",),
            ("enter",),
            ("escape",),
            ("question_mark",),
        ):
            await deck.press(*keys)
            assert len(deck.screen) == size[1]
            assert all(len(line) <= size[0] for line in deck.screen)


async def test_ages_move_on_without_news(client: FakeClient, open_deck: OpenDeck) -> None:
    """A look that finds nothing new still lets the ages grow."""
    client.runs.put(make_run(1, created_at=NOW - timedelta(minutes=7)))
    async with open_deck() as deck:
        assert deck.cursor_line().endswith(" 7m")
        deck.console.now = deck.runs.table._now = lambda: NOW + timedelta(minutes=3)
        await deck.settle()
        assert deck.cursor_line().endswith(" 10m")


async def test_coming_back_from_the_help_keeps_the_place(open_deck: OpenDeck, client: FakeClient) -> None:
    """Section and scrolled place of an open run are as they were left; new entries have come meanwhile."""
    run = make_run(1, status="running")
    client.runs.put(run)
    client.runs.say(run.id, *(f"entry {n:04}" for n in range(1, 101)))
    async with open_deck() as deck:
        await deck.press("enter", "pageup")
        before = deck.screen[9:21]
        await deck.press("question_mark")
        client.runs.say(run.id, "entry 0101")
        await deck.press("question_mark")
        assert deck.screen[9:21] == before
        await deck.press("G")
        assert "entry 0101" in deck.text


async def test_a_key_that_wakes_a_blurred_terminal_goes_to_the_question(
    open_deck: OpenDeck, client: FakeClient
) -> None:
    """Some terminals tell of a lost focus and not of its return: the next key is still the question's."""
    client.runs.put(make_run(1, status="running"))
    async with open_deck() as deck:
        await deck.press("c")
        await deck.after_guard()
        deck.console.post_message(events.AppBlur())
        await deck.pilot.pause()
        await deck.press("question_mark")
        assert "Cancel run 000001" in deck.screen[-1]
        await deck.press("y")
        assert len(client.runs.cancelled) == 1
