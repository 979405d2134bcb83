"""What the views may ask of the console. All of it happens before the next key is looked at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from jobdeck.model import Run
from jobdeck_tui.commands import Commands
from jobdeck_tui.feed import Feed
from jobdeck_tui.render.confirm import Question

BACK = "back"
"""Instead of a view's name: to where the operator came from."""


@dataclass(frozen=True, slots=True)
class Visit:
    """Coming to a view. `run` where the view needs one; `prefill`: its params stand in the form."""

    view: str
    run: Run | None = None
    prefill: bool = False


@dataclass(frozen=True, slots=True)
class LineWanted:
    """A line of text to be asked for. `then` gets it, or None where the operator turned away."""

    label: str
    text: str
    then: Callable[[str | None], None]
    is_filter: bool = False


@dataclass(frozen=True, slots=True)
class Order:
    """A filled-in form. `shown` are the options as text, for the command line."""

    job_type: str
    params: Mapping[str, Any]
    options: Mapping[str, Any]
    shown: Mapping[str, str]


class Shell(Protocol):
    """The console, as its views see it."""

    feed: Feed
    commands: Commands
    now: Callable[[], datetime]

    def go(self, visit: Visit) -> None:
        """Show another view."""

    def ask(self, question: Question) -> None:
        """Ask before a write, and carry it out after a yes."""

    def want_line(self, wanted: LineWanted) -> None:
        """Ask for a line of text."""

    def tell(self, text: str, *, command: str = "", bad: bool = False) -> None:
        """Say one line: the equivalent command and what came of it."""

    def order(self, order: Order) -> None:
        """Trigger a run."""

    def copy_id(self, run: Run) -> None:
        """The id of a run to the clipboard."""
