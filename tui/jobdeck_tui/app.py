"""The console: holds the views, hands answers to them and decisions to the feed, and owns the lines at the edges."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import ClassVar

from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.filter import LineFilter
from textual.message import Message
from textual.widgets import ContentSwitcher

from jobdeck_tui import clipboard, messages, safety
from jobdeck_tui.actions import HELP, QUIT
from jobdeck_tui.commands import Commands
from jobdeck_tui.feed import Feed, Pace
from jobdeck_tui.filters import FilterLine
from jobdeck_tui.ports import ClientPort
from jobdeck_tui.render.hints import hint_line
from jobdeck_tui.render.notice import Notice
from jobdeck_tui.views.base import Desk, View
from jobdeck_tui.views.helpview import HelpView
from jobdeck_tui.views.run import RunView
from jobdeck_tui.views.runs import RunsView
from jobdeck_tui.views.trigger import TriggerView
from jobdeck_tui.widgets.edges import NoticeBar, TitleBar
from jobdeck_tui.widgets.foot import Foot
from jobdeck_tui.widgets.keys import bindings_of

_log = logging.getLogger(__name__)
HOME = "runs"
_FOR_VIEWS: dict[type[Message], type[View]] = {
    messages.PageRead: RunsView,
    messages.ListSeen: RunsView,
    messages.RunSeen: RunView,
    messages.LogRead: RunView,
    messages.TypesRead: TriggerView,
    messages.TriggerRefused: TriggerView,
}
"""Answers of the feed that are one view's matter; the others are the console's."""


class Console(App[int]):
    """A view on one team. It holds no lease, no lock and no open transaction: a stalled terminal harms nobody."""

    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [*bindings_of([HELP]), *bindings_of([QUIT], priority=True)]
    CSS = "#views { height: 1fr; }"

    def __init__(
        self,
        client: ClientPort,
        *,
        chosen: FilterLine | None = None,
        pace: Pace | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self.animation_level = "none"
        self._inert = safety.ControlFilter()
        self.failure: BaseException | None = None
        """What the console ended with, if it crashed."""
        self.feed = Feed(client, self._deliver, pace=pace, now=now)
        self._team, self._project = client.scope.slug, client.project
        self._desk = Desk(self.feed, Commands(self._team), now)
        self._chosen = chosen or FilterLine()
        self._monotonic = monotonic
        self._trail = [HOME]
        self._polling: asyncio.Task[None] | None = None

    def compose(self) -> ComposeResult:
        yield TitleBar(self._team, self._project.slug if self._project else None)
        with ContentSwitcher(initial=HOME, id="views"):
            yield RunsView(self._desk, self._team, self._chosen, id=HOME)
            yield RunView(self._desk, id="run")
            yield TriggerView(self._desk, id="trigger")
            yield HelpView(self._desk, id="help")
        yield NoticeBar(lambda: self.view.position())
        yield Foot(
            lambda width: hint_line(self.view.hints, self.view.situation(), width),
            lambda: [kind.name for kind in self.query_one(TriggerView).types],
            lambda: self.view.take_focus(),
            self._monotonic,
        )

    def on_mount(self) -> None:
        self.view.enter(messages.Go(HOME))
        self.feed.load_types()
        self._polling = asyncio.create_task(self.feed.run(), name="console feed")

    async def on_unmount(self) -> None:
        if self._polling is not None:
            self._polling.cancel()
        await self.feed.close()

    # Safety

    def get_line_filters(self) -> Sequence[LineFilter]:
        return [*super().get_line_filters(), self._inert]

    def _fatal_error(self) -> None:
        """Instead of Textual's report, which prints the values of variables to the terminal."""
        self.failure = self._exception
        if self.failure is not None:
            _log.critical("the console crashed\n%s", safety.crash_report(self.failure))
        self._close_messages_no_wait()

    # The lines at the edges

    @property
    def view(self) -> View:
        """What is on the screen."""
        return self.query_one(f"#{self._trail[-1]}", View)

    def _chrome(self) -> None:
        self.query_one(NoticeBar).update()
        self.query_one(Foot).update()

    def _tell(self, text: str, *, command: str = "", bad: bool = False) -> None:
        self.query_one(NoticeBar).tell(Notice(text, command, bad))

    # Answers of the feed

    def _deliver(self, message: Message) -> None:
        view = _FOR_VIEWS.get(type(message))
        if self.is_running:
            (self if view is None else self.query_one(view)).post_message(message)

    def on_feed_alive(self) -> None:
        self.query_one(TitleBar).show_fresh()
        self.view.tick()
        self._chrome()

    def on_feed_stale(self, message: messages.FeedStale) -> None:
        self.query_one(TitleBar).show_fresh(message.seconds)
        self._tell(message.reason, bad=True)

    def on_survey_read(self, message: messages.SurveyRead) -> None:
        self.query_one(TitleBar).show_fleet(message.fleet)
        self.query_one(RunsView).take_counts(message.counts)

    def on_triggered(self, message: messages.Triggered) -> None:
        self._trail = [HOME]
        self.on_go(messages.Go("run", message.run))
        self.call_later(self._tell, "triggered", command=message.command)

    def on_told(self, message: messages.Told) -> None:
        self._tell(message.text, command=message.command, bad=message.bad)

    def on_changed(self) -> None:
        self._chrome()

    def on_moved(self) -> None:
        self._chrome()

    # Wishes of the views

    def on_go(self, message: messages.Go) -> None:
        if message.view != "back":
            self._trail.append(message.view)
        elif len(self._trail) > 1:
            self._trail.pop()
        self.feed.watch_nothing()
        self.query_one("#views", ContentSwitcher).current = self._trail[-1]
        self.view.enter(message)
        self._chrome()

    def on_ask(self, message: messages.Ask) -> None:
        self.query_one(Foot).ask(message.question)

    def on_want_line(self, message: messages.WantLine) -> None:
        self.query_one(Foot).prompt(message)

    def on_answered(self, message: messages.Answered) -> None:
        question = message.question
        if not message.yes:
            self._tell(f"{question.verb} {question.short_id}: no, nothing done")
            return
        command = self._desk.commands.write(question.verb, question.short_id, question.reason)
        self.feed.carry_out(question, command)

    def on_trigger_wanted(self, message: messages.TriggerWanted) -> None:
        command = self._desk.commands.trigger(message.job_type, message.params, message.shown)
        self.feed.trigger(message.job_type, message.params, message.options, command)

    async def on_copy_wanted(self, message: messages.CopyWanted) -> None:
        shown = message.run.shown_id
        way = await clipboard.copy(shown, self.copy_to_clipboard)
        self._tell(f"copied {shown} {way}")

    # Keys and focus

    def on_app_blur(self) -> None:
        self.feed.blurred(True)

    def on_app_focus(self) -> None:
        self.feed.blurred(False)

    def action_help(self) -> None:
        self.on_go(messages.Go("back" if self._trail[-1] == "help" else "help"))

    def action_quit_now(self) -> None:
        self.exit(0)
