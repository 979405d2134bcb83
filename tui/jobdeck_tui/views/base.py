"""What all views have in common."""

from __future__ import annotations

from textual.containers import Vertical
from textual.widget import Widget

from jobdeck.ids import tail
from jobdeck.model import Run
from jobdeck.states import allowed_actions
from jobdeck_tui.actions import Action, Situation
from jobdeck_tui.render.confirm import ask
from jobdeck_tui.shell import BACK, Shell, Visit


class View(Vertical):
    """A full-screen view. Its keys come from the one list of actions, `hints` are those of its hint line."""

    DEFAULT_CSS = "View { height: 1fr; width: 1fr; }"
    hints: tuple[Action, ...] = ()

    def __init__(self, shell: Shell, *, id: str) -> None:
        super().__init__(id=id)
        self.shell = shell

    def enter(self, visit: Visit) -> None:
        """The view comes to the screen, or comes back."""

    def holder(self) -> Widget | None:
        """The widget that gets the keys."""
        return None

    def take_keys(self) -> None:
        """The keys are the view's again, from the next one on."""
        self.screen.set_focus(self.holder())

    def situation(self) -> Situation:
        """What decides which actions are offered."""
        return Situation(run=self.chosen_run())

    def chosen_run(self) -> Run | None:
        """The run that actions are about, for the hints."""
        return None

    def run_to_act_on(self) -> Run | None:
        """The same, for acting: None where the operator does not see it."""
        return self.chosen_run()

    def tick(self) -> None:
        """Time went by: ages may have changed."""

    # Actions that several views have

    def action_back(self) -> None:
        self.shell.go(Visit(BACK))

    def action_cancel(self) -> None:
        self._ask("cancel", "c")

    def action_retry(self) -> None:
        self._ask("retry", "r")

    def action_approve(self) -> None:
        self._ask("approve", "a")

    def action_reject(self) -> None:
        self._ask("reject", "x")

    def action_copy(self) -> None:
        run = self.run_to_act_on()
        if run is not None:
            self.shell.copy_id(run)

    def _ask(self, verb: str, opener: str) -> None:
        run = self.run_to_act_on()
        if run is None:
            return
        if verb in allowed_actions(run.status, cancel_requested=run.cancel_requested_at is not None):
            self.shell.ask(ask(verb, run, opener))
            return
        state = "was already asked to stop" if run.label == "cancelling" else f"is {run.label}"
        self.shell.tell(f"cannot {verb}: run {tail(run.shown_id)} {state}", bad=True)
