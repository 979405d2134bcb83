"""One run: summary above; log, attempts, params, result or error below."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.widgets import ContentSwitcher

from jobdeck.model import Run
from jobdeck_tui.actions import PAGER, RUN
from jobdeck_tui.messages import Changed, LogRead, Moved, RunSeen
from jobdeck_tui.render.detail import SECTIONS, SUMMARY_LINES, section_bar, section_lines, summary
from jobdeck_tui.render.spans import Line
from jobdeck_tui.shell import Shell, Visit
from jobdeck_tui.views.base import View
from jobdeck_tui.widgets.keys import bindings_of
from jobdeck_tui.widgets.line_bar import LineBar, LineBlock
from jobdeck_tui.widgets.line_view import LineView
from jobdeck_tui.widgets.log_view import LogView


class RunView(View):
    """Follows one run for as long as it is on the screen."""

    DEFAULT_CSS = "RunView > ContentSwitcher { height: 1fr; }"
    BINDINGS = bindings_of(RUN)
    hints = (*RUN, *PAGER)

    def __init__(self, shell: Shell, *, id: str) -> None:
        super().__init__(shell, id=id)
        self.run: Run | None = None
        self._section = SECTIONS[0]

    def compose(self) -> ComposeResult:
        yield LineBlock(self._summary, height=SUMMARY_LINES, id="summary")
        yield LineBar(lambda width: section_bar(self.run, self._section, self._place(), width), id="sections")
        with ContentSwitcher(initial="log"):
            yield LogView(self.shell, self._load_tail, self._load_after, id="log")
            yield LineView(self.shell, id="text")

    def _summary(self, width: int) -> list[Line]:
        return summary(self.run, width, self.shell.now()) if self.run else []

    @property
    def log_view(self) -> LogView:
        """The log of the run."""
        return self.query_one(LogView)

    @property
    def text_view(self) -> LineView:
        """The other sections."""
        return self.query_one("#text", LineView)

    def _load_tail(self) -> None:
        if self.run is not None:
            self.shell.feed.load_log_tail(self.run.id)

    def _load_after(self, entry_id: int) -> None:
        if self.run is not None:
            self.shell.feed.load_log_page(self.run.id, entry_id)

    def enter(self, visit: Visit) -> None:
        if visit.run is not None:
            self.run = visit.run
            self._section = SECTIONS[0]
            self.log_view.open(visit.run.id)
            self.shell.feed.load_log_tail(visit.run.id)
            self.shell.tell("", command=self.shell.commands.show(visit.run))
        if self.run is not None:
            self.shell.feed.watch_run(self.run.id, self.log_view)
            self._show_section()

    def chosen_run(self) -> Run | None:
        return self.run

    def _place(self) -> str:
        if self._section == "log":
            return self.log_view.place
        count = len(self.text_view.lines)
        return f"{count} line{'s' if count != 1 else ''}"

    def on_moved(self) -> None:
        self.query_one("#sections", LineBar).update()

    def tick(self) -> None:
        self.query_one("#summary", LineBlock).update()

    # Answers of the feed

    def on_run_seen(self, message: RunSeen) -> None:
        """The run as it is now."""
        message.stop()
        if self.run is None or message.run_id != self.run.id:
            return
        if message.run is None:
            self.shell.tell("this run is not there any more; what is shown is its last known state", bad=True)
            return
        self.run = message.run
        self._refresh()

    def on_log_read(self, message: LogRead) -> None:
        """New entries of its log."""
        message.stop()
        self.log_view.take_in(message)
        self.post_message(Changed())

    def _refresh(self) -> None:
        self.query_one("#summary", LineBlock).update()
        self.query_one("#sections", LineBar).update()
        if self.run is not None and self._section != "log":
            self.text_view.show(section_lines(self.run, self._section, self.shell.now()), keep_place=True)

    # Sections

    def _show_section(self) -> None:
        is_log = self._section == "log"
        self.query_one(ContentSwitcher).current = "log" if is_log else "text"
        if not is_log and self.run is not None:
            self.text_view.show(section_lines(self.run, self._section, self.shell.now()))
        self.take_keys()
        self._refresh()
        self.post_message(Moved())

    def holder(self) -> LineView:
        return self.log_view if self._section == "log" else self.text_view

    def _turn(self, step: int) -> None:
        self._section = SECTIONS[(SECTIONS.index(self._section) + step) % len(SECTIONS)]
        self._show_section()

    def action_next_section(self) -> None:
        self._turn(1)

    def action_previous_section(self) -> None:
        self._turn(-1)

    def action_again(self) -> None:
        if self.run is not None:
            self.shell.go(Visit("trigger", self.run, prefill=True))
