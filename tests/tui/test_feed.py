"""The feed: what it reads, how it waits, what it says when the database does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import pytest
from textual.message import Message

from jobdeck.errors import DatabaseUnavailable
from jobdeck_tui import messages
from jobdeck_tui.feed import Feed, Pace
from jobdeck_tui.filters import FilterLine
from jobdeck_tui.render.confirm import Question
from jobdeck_tui.window import RunWindow
from tests.tui.fake_client import NOW, FakeClient, make_run, run_id

M = TypeVar("M", bound=Message)


@dataclass
class LogPlace:
    """How far a log was read."""

    last_id: int = 0
    wants_new: bool = True


class Inbox:
    """What the feed posts."""

    def __init__(self) -> None:
        self.all: list[Message] = []
        self._arrived = asyncio.Event()

    def __call__(self, message: Message) -> None:
        self.all.append(message)
        self._arrived.set()

    def of(self, kind: type[M]) -> list[M]:
        return [message for message in self.all if isinstance(message, kind)]

    async def until(self, met: Callable[[], bool]) -> None:
        """Wait for messages until something holds, at most 5 seconds."""
        async with asyncio.timeout(5):
            while not met():
                self._arrived.clear()
                await self._arrived.wait()


@pytest.fixture
async def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
async def feed(client: FakeClient, inbox: Inbox) -> Feed:
    return Feed(client, inbox, pace=Pace(poll=60, gap=0), now=lambda: NOW)


async def test_a_look_reads_the_visible_stretch_and_counts_what_is_newer(
    client: FakeClient, feed: Feed, inbox: Inbox
) -> None:
    """Scrolled away from the top, a look re-reads the rows on the screen and counts the new ones."""
    client.runs.put(*(make_run(number) for number in range(1, 101)))
    window = RunWindow(height=10, page=50)
    feed.load_page(window, window.reset(FilterLine()))
    await feed.settled()
    [page] = inbox.of(messages.PageRead)
    window.place(page.wanted, page.stretch)
    for _ in range(30):
        window.move(1)
    client.runs.put(*(make_run(number) for number in range(101, 108)))
    feed.watch_list(window)
    await feed.look()
    [seen] = inbox.of(messages.ListSeen)
    assert seen.seen.newer == 7
    assert {run.id for run in window.visible} <= {run.id for run in seen.seen.stretch.runs}
    assert inbox.of(messages.FeedAlive)


async def test_an_error_is_told_with_its_age_and_the_feed_goes_on(
    client: FakeClient, feed: Feed, inbox: Inbox
) -> None:
    """A database that is away makes the screen stale, never ends the loop, and is asked again."""
    client.runs.broken = DatabaseUnavailable("the database cannot be reached")
    polling = asyncio.create_task(feed.run())
    await inbox.until(lambda: bool(inbox.of(messages.FeedStale)))
    assert inbox.of(messages.FeedStale)[0].reason == "the database cannot be reached"
    client.runs.broken = None
    feed.look_now()
    await inbox.until(lambda: bool(inbox.of(messages.FeedAlive)))
    polling.cancel()


async def test_an_unexpected_error_is_not_quoted(client: FakeClient, feed: Feed, inbox: Inbox) -> None:
    """What a driver says may hold the password of the database; the screen shows its kind alone."""
    client.runs.broken = RuntimeError("postgresql://app:hunter2@db/x")
    await feed.look()
    [stale] = inbox.of(messages.FeedStale)
    assert stale.reason == "RuntimeError"


async def test_a_hint_brings_a_look_before_the_poll(client: FakeClient, feed: Feed, inbox: Inbox) -> None:
    """With a poll of a minute, a change is on the screen as soon as the hint comes."""
    polling = asyncio.create_task(feed.run())
    await inbox.until(lambda: len(inbox.of(messages.FeedAlive)) == 1)
    client.hint()
    await inbox.until(lambda: len(inbox.of(messages.FeedAlive)) == 2)
    polling.cancel()


async def test_a_client_without_hints_is_polled(
    inbox: Inbox, client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hints that fail leave the poll."""

    async def no_hints(timeout: float) -> bool:
        raise DatabaseUnavailable("no notifications here")

    monkeypatch.setattr(client, "changed", no_hints)
    feed = Feed(client, inbox, pace=Pace(poll=0.01, gap=0), now=lambda: NOW)
    polling = asyncio.create_task(feed.run())
    await inbox.until(lambda: len(inbox.of(messages.FeedAlive)) >= 3)
    polling.cancel()


async def test_a_page_is_tried_until_it_is_there(client: FakeClient, inbox: Inbox) -> None:
    """A page asked for while the database is away comes when it is back."""
    feed = Feed(client, inbox, pace=Pace(poll=0.01, gap=0), now=lambda: NOW)
    client.runs.broken = DatabaseUnavailable("away")
    window = RunWindow()
    feed.load_page(window, window.reset(FilterLine()))
    await inbox.until(lambda: len(inbox.of(messages.FeedStale)) >= 2)
    client.runs.broken = None
    await inbox.until(lambda: bool(inbox.of(messages.PageRead)))


async def test_a_log_is_followed_and_a_flood_jumps_to_its_tail(
    client: FakeClient, feed: Feed, inbox: Inbox
) -> None:
    """New entries continue the old ones; more than a page of them is replaced by the tail."""
    run = make_run(1, status="running")
    client.runs.put(run)
    client.runs.say(run.id, *(f"line {n}" for n in range(300)))
    place = LogPlace()
    feed.watch_run(run.id, place)
    feed.load_log_tail(run.id)
    await feed.settled()
    [tail] = inbox.of(messages.LogRead)
    assert (tail.after, tail.from_start, len(tail.entries)) == (None, False, 200)
    place.last_id = 300
    client.runs.say(run.id, "line 300", "line 301")
    await feed.look()
    more = inbox.of(messages.LogRead)[-1]
    assert (more.after, [entry.message for entry in more.entries]) == (300, ["line 300", "line 301"])
    place.last_id = 302
    client.runs.say(run.id, *(f"flood {n}" for n in range(2_000)))
    await feed.look()
    assert inbox.of(messages.LogRead)[-1].after is None
    assert inbox.of(messages.LogRead)[-1].entries[-1].message == "flood 1999"


async def test_a_run_that_is_gone_is_told(client: FakeClient, feed: Feed, inbox: Inbox) -> None:
    """A run that retention took away does not look like a broken database."""
    feed.watch_run(run_id(77), LogPlace())
    await feed.look()
    assert inbox.of(messages.RunSeen)[0].run is None
    assert not inbox.of(messages.FeedStale)


async def test_a_refused_write_is_told_and_nothing_else_happens(
    client: FakeClient, feed: Feed, inbox: Inbox
) -> None:
    """A run that ended between the question and the yes: the operator reads why nothing was done."""
    run = make_run(1)
    client.runs.put(run)
    feed.carry_out(
        Question("cancel", run.id, "000001", "x", "running", "acme", "c"), "jobdeck runs cancel 000001"
    )
    await feed.settled()
    [told] = inbox.of(messages.Told)
    assert told.bad
    assert told.text == "cancel 000001: the run has ended already (completed)"


async def test_leaving_waits_for_a_write_and_drops_reads(
    client: FakeClient, feed: Feed, inbox: Inbox
) -> None:
    """A cancel that was said yes to is carried out although the operator quits at once."""
    run = make_run(1, status="running")
    client.runs.put(run)
    feed.carry_out(Question("cancel", run.id, "000001", "x", "running", "acme", "c"), "")
    await feed.close()
    assert client.runs.cancelled == [(run.id, None)]


async def test_a_repeated_submit_makes_one_run(client: FakeClient, feed: Feed) -> None:
    """A key that repeats itself while a run is being made does not make two."""
    feed.trigger("noop", {}, {}, "")
    feed.trigger("noop", {}, {}, "")
    await feed.settled()
    assert len(client.runs.triggered) == 1


async def test_a_stream_of_hints_does_not_repaint_the_list_all_the_time(
    client: FakeClient, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a look for a hint, the next hint of a list waits for the poll; an open run may be read at once."""
    waits: list[float] = []
    feed = Feed(client, inbox, pace=Pace(poll=30, gap=0), now=lambda: NOW)

    async def noted(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(feed, "_sleep", noted)
    feed.watch_list(RunWindow())
    polling = asyncio.create_task(feed.run())
    for looks in range(1, 4):
        await inbox.until(lambda looks=looks: len(inbox.of(messages.FeedAlive)) >= looks)  # type: ignore[misc]
        client.hint()
    await inbox.until(lambda: len(inbox.of(messages.FeedAlive)) >= 4)
    polling.cancel()
    assert waits[0] < 1
    assert waits[1:3] == [30, 30]
