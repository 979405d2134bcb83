"""The help: every key there is."""

from __future__ import annotations

from textual.app import ComposeResult

from jobdeck_tui.actions import HELP_VIEW, PAGER
from jobdeck_tui.render.helptext import help_lines
from jobdeck_tui.shell import Visit
from jobdeck_tui.views.base import View
from jobdeck_tui.widgets.keys import bindings_of
from jobdeck_tui.widgets.line_view import LineView


class HelpView(View):
    """Lines that can be searched like any others."""

    BINDINGS = bindings_of(HELP_VIEW)
    hints = (*HELP_VIEW, *(action for action in PAGER if action.id == "search"))

    def compose(self) -> ComposeResult:
        yield LineView(self.shell, id="help-text")

    def enter(self, visit: Visit) -> None:
        self.query_one(LineView).show(help_lines())
        self.take_keys()

    def holder(self) -> LineView:
        return self.query_one(LineView)
