"""Everything a key can do, once: bindings, the hint line and the help are made from this list. No Textual here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jobdeck.model import Run
from jobdeck.states import allowed_actions


@dataclass(frozen=True, slots=True)
class Situation:
    """What the operator has before them: decides which actions are offered."""

    run: Run | None = None
    """The run under the cursor, or the open one."""
    filtered: bool = False
    following: bool = True
    has_schema: bool = True


Offered = Callable[[Situation], bool]


@dataclass(frozen=True, slots=True)
class Action:
    """`id` is the name of the method `action_<id>`; `keys` are Textual's names, the first is the one shown."""

    id: str
    keys: str
    label: str
    """Word of the hint line; empty keeps it out of there."""
    help: str
    offered: Offered = lambda _situation: True
    shown: str | None = None
    """How the keys are written in the help, where their names are not."""
    argument: str = ""

    @property
    def call(self) -> str:
        """The action string of a binding."""
        return f"{self.id}({self.argument!r})" if self.argument else self.id

    @property
    def first_key(self) -> str:
        """The key of the hint line."""
        return _NAMES.get(first := self.keys.split(",")[0], first)

    @property
    def shown_keys(self) -> str:
        """All keys, for the help."""
        return self.shown or " ".join(_NAMES.get(key, key) for key in self.keys.split(","))


_NAMES = {
    "question_mark": "?", "slash": "/", "escape": "esc", "left_square_bracket": "[", "right_square_bracket": "]",
    "pagedown": "PgDn", "pageup": "PgUp", "ctrl+c": "^c", "ctrl+d": "^d", "ctrl+u": "^u", "ctrl+s": "^s",
}  # fmt: skip


def _can(verb: str) -> Offered:
    def offered(situation: Situation) -> bool:
        run = situation.run
        if run is None:
            return False
        return verb in allowed_actions(run.status, cancel_requested=run.cancel_requested_at is not None)

    return offered


def _has_run(situation: Situation) -> bool:
    return situation.run is not None


HELP = Action("help", "question_mark", "help", "this help; again to go back")
QUIT = Action("quit_now", "ctrl+c", "", "leave the console from anywhere; runs go on")
_BACK = "escape,h,backspace,q"
CANCEL = Action(
    "cancel", "c", "cancel", "ask the run to stop (asks first; a reason can be given)", _can("cancel")
)
RETRY = Action("retry", "r", "retry", "put an ended run back to pending (asks first)", _can("retry"))
APPROVE = Action("approve", "a", "approve", "let the run go on, as it is shown (asks first)", _can("approve"))
REJECT = Action("reject", "x", "reject", "end the run without running it (asks for a reason)", _can("reject"))
COPY = Action("copy", "y", "copy id", "copy the id of the run to the clipboard", _has_run)

MOVES = (
    Action("move_down", "j,down", "", "one line down"),
    Action("move_up", "k,up", "", "one line up"),
    Action("page_down", "pagedown,ctrl+d,space", "", "one screen down"),
    Action("page_up", "pageup,ctrl+u", "", "one screen up"),
    Action("first", "g,home", "", "to the top; in the list: to the newest run, and follow"),
    Action("last", "G,end", "", "to the end; in a log: to the last line, and follow"),
)
RUNS = (
    Action(
        "open", "enter,l,right", "open", "open the run: progress, log, attempts, params, result", _has_run
    ),
    Action("trigger", "t", "trigger", "trigger a run: choose a job type, fill in its form"),
    CANCEL,
    RETRY,
    Action("edit_filter", "slash", "filter", "filter by status, type, queue, time or text; see below"),
    Action("freeze", "F", "freeze", "freeze the list, or follow the newest runs again"),
    COPY,
    *(
        Action(
            "group", key, "", f"only {name} runs" if name != "all" else "runs of every status", argument=name
        )
        for key, name in zip(
            "123456", ("all", "pending", "running", "completed", "failed", "cancelled"), strict=True
        )
    ),
    Action(
        "clear_filter", "escape", "clear filter", "clear the filter", lambda situation: situation.filtered
    ),
    Action("leave", "q", "quit", "leave the console; runs go on"),
)
RUN = (
    Action("back", _BACK, "back", "back to the list"),
    Action(
        "next_section", "tab,right_square_bracket,right", "section", "next section: log, attempts, params …"
    ),
    Action("previous_section", "shift+tab,left_square_bracket,left", "", "previous section"),
    APPROVE,
    REJECT,
    CANCEL,
    RETRY,
    Action("again", "t", "again", "trigger the same type and params again, by the form", _has_run),
    COPY,
)
PAGER = (
    Action("wrap", "w", "wrap", "wrap long lines, or cut them"),
    Action("search", "slash", "search", "search in these lines"),
    Action("next_match", "n", "", "next match"),
    Action("previous_match", "N", "", "previous match"),
    Action("follow", "F", "follow", "follow the end of the log, or stop there"),
)
PICK = (
    Action("choose", "enter,l,right", "choose", "choose this job type"),
    Action("back", _BACK, "back", "back to the list"),
)
FORM = (
    Action("submit", "ctrl+s", "trigger", "trigger the run"),
    Action("back", "escape", "back", "back without triggering"),
    Action("next_field", "enter,down", "next field", "next field"),
    Action("previous_field", "up", "", "previous field"),
)
HELP_VIEW = (Action("back", _BACK, "back", "back"),)


@dataclass(frozen=True, slots=True)
class Topic:
    """One heading of the help and the actions under it."""

    title: str
    actions: tuple[Action, ...]


TOPICS = (
    Topic("List of runs", RUNS),
    Topic("One run", RUN),
    Topic("Log and other text", PAGER),
    Topic("Moving", MOVES),
    Topic("Trigger form", FORM),
    Topic("Everywhere", (HELP, QUIT)),
)
