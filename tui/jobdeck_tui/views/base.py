"""What all views have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from textual.containers import Vertical

from jobdeck.ids import tail
from jobdeck.model import Run
from jobdeck.states import allowed_actions
from jobdeck_tui.actions import Action, Situation
from jobdeck_tui.commands import Commands
from jobdeck_tui.feed import Feed
from jobdeck_tui.messages import Ask, CopyWanted, Go, Told
from jobdeck_tui.render.confirm import ask
from jobdeck_tui.render.spans import Line


@dataclass(frozen=True, slots=True)
class Desk:
    """What a view works with."""

    feed: Feed
    commands: Commands
    now: Callable[[], datetime]


class View(Vertical):
    """A full-screen view. Its keys come from the one list of actions, `hints` are those of its hint line."""

    DEFAULT_CSS = "View { height: 1fr; width: 1fr; }"
    hints: tuple[Action, ...] = ()

    def __init__(self, desk: Desk, *, id: str) -> None:
        super().__init__(id=id)
        self.desk = desk

    def enter(self, message: Go) -> None:
        """The view comes to the screen, or comes back."""

    def take_focus(self) -> None:
        """The keys are the view's again."""

    def situation(self) -> Situation:
        """What decides which actions are offered."""
        return Situation(run=self.chosen_run())

    def chosen_run(self) -> Run | None:
        """The run that an action is about. None may put a cursor where the operator can see it first."""
        return None

    def position(self) -> Line:
        """The right end of the notice line."""
        return ()

    def tick(self) -> None:
        """Time went by: ages may have changed."""

    # Actions that several views have

    def action_back(self) -> None:
        self.post_message(Go("back"))

    def action_cancel(self) -> None:
        self._ask("cancel", "c")

    def action_retry(self) -> None:
        self._ask("retry", "r")

    def action_copy(self) -> None:
        run = self.run_to_act_on()
        if run is not None:
            self.post_message(CopyWanted(run))

    def run_to_act_on(self) -> Run | None:
        """The chosen run; where it is out of sight, nothing is acted on."""
        return self.chosen_run()

    def _ask(self, verb: str, opener: str) -> None:
        run = self.run_to_act_on()
        if run is None:
            return
        if verb in allowed_actions(run.status, cancel_requested=run.cancel_requested_at is not None):
            self.post_message(Ask(ask(verb, run, opener)))
            return
        state = "was already asked to stop" if run.label == "cancelling" else f"is {run.label}"
        self.post_message(Told(f"cannot {verb}: run {tail(run.shown_id)} {state}", bad=True))
