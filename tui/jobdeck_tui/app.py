"""The console: holds the views, hands answers to them and decisions to the feed."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.message import Message
from textual.widgets import ContentSwitcher

from jobdeck.model import Run
from jobdeck_tui import clipboard, messages
from jobdeck_tui.actions import HELP, QUIT
from jobdeck_tui.commands import Commands
from jobdeck_tui.feed import Feed, Pace
from jobdeck_tui.filters import FilterLine
from jobdeck_tui.ports import ClientPort
from jobdeck_tui.render.confirm import Question
from jobdeck_tui.render.hints import hint_line
from jobdeck_tui.render.notice import Notice
from jobdeck_tui.shell import BACK, LineWanted, Order, Visit
from jobdeck_tui.terminal_app import TerminalApp
from jobdeck_tui.views.base import View
from jobdeck_tui.views.helpview import HelpView
from jobdeck_tui.views.run import RunView
from jobdeck_tui.views.runs import RunsView
from jobdeck_tui.views.trigger import TriggerView
from jobdeck_tui.widgets.edges import NoticeBar, TitleBar
from jobdeck_tui.widgets.foot import Foot
from jobdeck_tui.widgets.keys import bindings_of

HOME = "runs"
_AUDIENCE: dict[type[Message], type[View]] = {
    messages.PageRead: RunsView,
    messages.ListSeen: RunsView,
    messages.RunSeen: RunView,
    messages.LogRead: RunView,
    messages.TypesRead: TriggerView,
    messages.TriggerRefused: TriggerView,
}
"""Answers of the feed that are one view's matter; the others are the console's."""


class Console(TerminalApp):
    """A view on one team. It holds no lease, no lock and no open transaction: a stalled terminal harms nobody."""

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
        self.feed = Feed(client, self._deliver, pace=pace, now=now)
        self.commands = Commands(client.scope.slug)
        self.now = now
        self._team, self._project = client.scope.slug, client.project
        self._chosen = chosen or FilterLine()
        self._monotonic = monotonic
        self._trail = [HOME]

    def compose(self) -> ComposeResult:
        yield TitleBar(self._team, self._project.slug if self._project else None)
        with ContentSwitcher(initial=HOME, id="views"):
            yield RunsView(self, self._team, self._chosen, id=HOME)
            yield RunView(self, id="run")
            yield TriggerView(self, id="trigger")
            yield HelpView(self, id="help")
        yield NoticeBar()
        yield Foot(
            lambda width: hint_line(self.view.hints, self.view.situation(), width),
            lambda: [kind.name for kind in self.query_one(TriggerView).types],
            self._answered,
            lambda: self.view.take_keys(),
            self._monotonic,
        )

    def on_mount(self) -> None:
        self.view.enter(Visit(HOME))
        self.feed.load_types()
        self.spawn(self.feed.run())

    async def on_unmount(self) -> None:
        await self.feed.close()

    @property
    def view(self) -> View:
        """What is on the screen."""
        return self.query_one(f"#{self._trail[-1]}", View)

    # What the views ask for

    def go(self, visit: Visit) -> None:
        if visit.view != BACK:
            self._trail.append(visit.view)
        elif len(self._trail) > 1:
            self._trail.pop()
        self.feed.watch_nothing()
        self.query_one(Foot).dismiss()
        self.query_one("#views", ContentSwitcher).current = self._trail[-1]
        self.view.enter(visit)
        self._update_hints()

    def ask(self, question: Question) -> None:
        self.query_one(Foot).ask(question)

    def want_line(self, wanted: LineWanted) -> None:
        self.query_one(Foot).prompt(wanted)

    def tell(self, text: str, *, command: str = "", bad: bool = False) -> None:
        self.query_one(NoticeBar).tell(Notice(text, command, bad))

    def order(self, order: Order) -> None:
        command = self.commands.trigger(order.job_type, order.params, order.shown)
        self.feed.trigger(order.job_type, order.params, order.options, command)

    def copy_id(self, run: Run) -> None:
        async def copy() -> None:
            way = await clipboard.copy(run.shown_id, self.copy_to_clipboard)
            self.tell(f"copied {run.shown_id} {way}")

        self.spawn(copy())

    def _answered(self, question: Question, yes: bool) -> None:
        if yes:
            command = self.commands.write(question.verb, question.short_id, question.reason)
            self.feed.carry_out(question, command)
        else:
            self.tell(f"{question.verb} {question.short_id}: no, nothing done")

    # News

    def _deliver(self, message: Message) -> None:
        audience = _AUDIENCE.get(type(message))
        if self.is_running:
            (self if audience is None else self.query_one(audience)).post_message(message)

    def on_feed_alive(self) -> None:
        self.query_one(TitleBar).show_fresh()
        self.view.tick()
        self._update_hints()

    def on_feed_stale(self, message: messages.FeedStale) -> None:
        self.query_one(TitleBar).show_fresh(message.seconds)
        self.tell(message.reason, bad=True)

    def on_survey_read(self, message: messages.SurveyRead) -> None:
        self.query_one(TitleBar).show_fleet(message.fleet)
        self.query_one(RunsView).take_counts(message.counts)

    def on_triggered(self, message: messages.Triggered) -> None:
        if self._trail[-1] == "trigger":
            self._trail = [HOME]
            self.go(Visit("run", message.run))
        self.tell("triggered", command=message.command)

    def on_told(self, message: messages.Told) -> None:
        self.tell(message.text, command=message.command, bad=message.bad)

    def on_changed(self) -> None:
        self._update_hints()

    def on_moved(self) -> None:
        self._update_hints()

    def _update_hints(self) -> None:
        self.query_one(Foot).update()

    # Keys of the whole console

    def action_help(self) -> None:
        self.go(Visit(BACK if self._trail[-1] == "help" else "help"))

    def action_quit_now(self) -> None:
        self.exit(0)

    def on_app_blur(self) -> None:
        self.feed.blurred(True)

    def on_app_focus(self) -> None:
        self.feed.blurred(False)
