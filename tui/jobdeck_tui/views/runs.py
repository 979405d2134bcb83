"""Home: the list of runs."""

from __future__ import annotations

from collections.abc import Mapping

from textual.app import ComposeResult

from jobdeck.errors import ValidationError
from jobdeck.ids import tail
from jobdeck.model import Run
from jobdeck_tui.actions import MOVES, RUNS, Situation
from jobdeck_tui.filters import FilterLine, parse_filter
from jobdeck_tui.messages import Changed, ListSeen, Moved, PageRead
from jobdeck_tui.render.header import Position, count_of, filter_line, group_line, position_line
from jobdeck_tui.render.rows import headings
from jobdeck_tui.render.spans import Line
from jobdeck_tui.render.times import stamp
from jobdeck_tui.shell import LineWanted, Shell, Visit
from jobdeck_tui.views.base import View
from jobdeck_tui.widgets.keys import bindings_of
from jobdeck_tui.widgets.line_bar import LineBar
from jobdeck_tui.widgets.run_table import RunTable
from jobdeck_tui.window import PageWanted, RunWindow


class RunsView(View):
    """Groups, filter, headings and the table. The window is the truth of what is shown."""

    BINDINGS = bindings_of((*RUNS, *(action for action in MOVES if action.id in ("first", "last"))))
    hints = RUNS

    def __init__(self, shell: Shell, team: str, chosen: FilterLine, *, id: str) -> None:
        super().__init__(shell, id=id)
        self.window = RunWindow(chosen=chosen)
        self._team = team
        self._counts: Mapping[str, int] | None = None

    def compose(self) -> ComposeResult:
        yield LineBar(lambda width: group_line(self._counts, self.window.chosen.group, width), id="groups")
        yield LineBar(
            lambda width: filter_line(self.window.chosen.to_text(), self._position(), width), id="filter"
        )
        yield LineBar(headings, id="headings")
        yield RunTable(self.window, self.shell.now, id="table")

    @property
    def table(self) -> RunTable:
        """The rows."""
        return self.query_one(RunTable)

    def on_mount(self) -> None:
        self._load(self.window.reset(self.window.chosen))
        self._refresh()

    def enter(self, visit: Visit) -> None:
        self.shell.feed.watch_list(self.window)
        self.take_keys()
        self._refresh()

    def holder(self) -> RunTable:
        return self.table

    def situation(self) -> Situation:
        window = self.window
        return Situation(self.window.cursor, bool(window.chosen.to_text()), window.following)

    def chosen_run(self) -> Run | None:
        return self.window.cursor

    def run_to_act_on(self) -> Run | None:
        """The run under the cursor; a cursor out of sight is first brought to where the operator sees it."""
        run = self.window.cursor
        if run is None and self.window.rows:
            self.window.show_cursor()
            self.table.repaint()
            now_on = self.window.cursor
            name = tail(now_on.shown_id) if now_on else "nothing"
            self.shell.tell(f"the cursor was out of sight; it is on {name} now: press again")
        return run

    def _position(self) -> Line:
        window, group = self.window, self.window.chosen.group
        first = None if window.above is None else window.above + window.top + 1
        whole = window.at_head and window.at_tail
        total = (window.above or 0) + len(window.rows)
        if (
            not whole
            and self._counts is not None
            and group
            and window.chosen == FilterLine().with_group(group)
        ):
            whole, total = True, max(count_of(group, self._counts), total)
        shown = len(window.visible)
        return position_line(
            Position(
                first,
                shown,
                total,
                whole,
                window.new,
                window.new_more,
                window.frozen,
                self._searched_to(),
            )
        )

    def _searched_to(self) -> str:
        moment = self.window.searched_to
        return "" if moment is None else stamp(moment, self.shell.now())

    def tick(self) -> None:
        self.table.repaint()

    # Answers of the feed

    def on_page_read(self, message: PageRead) -> None:
        """A page that was asked for."""
        message.stop()
        if self.window.place(message.wanted, message.stretch):
            self._refresh()
            self.post_message(Changed())
            self._load_more()
            if message.stretch.stopped is None:
                self.shell.feed.look_now()

    def on_list_seen(self, message: ListSeen) -> None:
        """The visible stretch as it is now."""
        message.stop()
        if self.window.merge(message.seen, self.shell.now()):
            self._refresh()
            self._load_more()

    def take_counts(self, counts: Mapping[str, int]) -> None:
        """Counts by status, of the whole team."""
        self._counts = counts
        self._refresh()

    def on_moved(self, message: Moved) -> None:
        # The message goes on to the console, which updates its own lines.
        self.query_one("#filter", LineBar).update()
        self._load_more()
        self.shell.feed.look_soon()

    def _load(self, wanted: PageWanted) -> None:
        self.shell.feed.load_page(self.window, wanted)

    def _load_more(self) -> None:
        wanted = self.window.wants()
        if wanted is not None:
            self._load(wanted)

    def _refresh(self) -> None:
        self.table.notes = self._notes()
        self.table.repaint()
        for bar in self.query(LineBar):
            bar.update()

    def _notes(self) -> list[Line]:
        window = self.window
        if not window.loaded:
            return [(), (("   reading …", "dim"),)]
        text = window.chosen.to_text()
        if window.searched_to is not None:
            told = f"   searched back to {self._searched_to()}, nothing yet …   esc clears the filter"
            return [(), ((told, "dim"),)]
        if text:
            told = f"   No runs of team {self._team} match "
            return [(), ((told, "text"), (text, "chip"), ("   esc clears the filter", "dim"))]
        return [(), ((f"   No runs in team {self._team} yet. Press t to trigger one.", "text"),)]

    # Actions

    def action_first(self) -> None:
        self._load(self.window.go_home())

    def action_last(self) -> None:
        self._load(self.window.go_end())

    def action_open(self) -> None:
        run = self.run_to_act_on()
        if run is not None:
            self.shell.go(Visit("run", run))

    def action_trigger(self) -> None:
        self.shell.go(Visit("trigger"))

    def action_freeze(self) -> None:
        if self.window.frozen or not self.window.following:
            self._load(self.window.go_home())
        else:
            self.window.frozen = True
            self.shell.feed.look_now()
        self.post_message(Moved())

    def action_group(self, name: str) -> None:
        self._use(self.window.chosen.with_group(name))

    def action_clear_filter(self) -> None:
        if self.window.chosen.to_text():
            self._use(FilterLine())

    def action_edit_filter(self) -> None:
        text = self.window.chosen.to_text()
        self.shell.want_line(LineWanted("filter", f"{text} " if text else "", self._edited, is_filter=True))

    def _edited(self, text: str | None) -> None:
        """The edited filter; one that makes no sense leaves the old one in force."""
        if text is None:
            return
        try:
            chosen = parse_filter(text)
            chosen.to_run_filter(self.shell.now())
        except ValidationError as error:
            self.shell.tell(error.message, bad=True)
        else:
            self._use(chosen)

    def _use(self, chosen: FilterLine) -> None:
        self._load(self.window.reset(chosen))
        self._refresh()
        self.shell.tell("", command=self.shell.commands.list(chosen))

    def action_leave(self) -> None:
        self.app.exit(0)
