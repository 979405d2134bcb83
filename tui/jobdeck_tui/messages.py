"""What the feed tells the console, and what its parts tell each other.

Only news travels as messages. What a key does happens at once, by a call: a message would wait behind the keys that
were typed after it, and those would still reach the view that the first key meant to leave.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from textual.message import Message

from jobdeck.errors import JobdeckError
from jobdeck.model import JobType, LogEntry, Run, RunStretch
from jobdeck_tui.render.header import Fleet
from jobdeck_tui.window import PageWanted, Seen

# From the feed


class FeedAlive(Message):
    """The last look at the database succeeded."""


class FeedStale(Message):
    """The last look failed; what is shown is `seconds` old."""

    def __init__(self, seconds: int, reason: str) -> None:
        super().__init__()
        self.seconds = seconds
        self.reason = reason


class PageRead(Message):
    """A page of the list that was asked for."""

    def __init__(self, wanted: PageWanted, stretch: RunStretch) -> None:
        super().__init__()
        self.wanted = wanted
        self.stretch = stretch


class ListSeen(Message):
    """The visible stretch of the list, re-read."""

    def __init__(self, seen: Seen) -> None:
        super().__init__()
        self.seen = seen


class SurveyRead(Message):
    """Counts by status and the fleet."""

    def __init__(self, counts: Mapping[str, int], fleet: Fleet) -> None:
        super().__init__()
        self.counts = counts
        self.fleet = fleet


class RunSeen(Message):
    """The open run, re-read. `run` None: it is not there any more."""

    def __init__(self, run_id: UUID, run: Run | None) -> None:
        super().__init__()
        self.run_id = run_id
        self.run = run


class LogRead(Message):
    """Entries of the open run's log that follow the entry `after`; None: they stand alone, what was held goes."""

    def __init__(
        self,
        run_id: UUID,
        entries: Sequence[LogEntry],
        *,
        after: int | None,
        from_start: bool,
        complete: bool,
    ) -> None:
        super().__init__()
        self.run_id = run_id
        self.entries = entries
        self.after = after
        self.from_start = from_start
        """The first entry is the first of the log."""
        self.complete = complete
        """The last entry is the last of the log, as of this reading."""


class TypesRead(Message):
    """The job types."""

    def __init__(self, types: Sequence[JobType]) -> None:
        super().__init__()
        self.types = types


class Triggered(Message):
    """A run was made."""

    def __init__(self, run: Run, command: str) -> None:
        super().__init__()
        self.run = run
        self.command = command


class TriggerRefused(Message):
    """No run was made."""

    def __init__(self, error: JobdeckError) -> None:
        super().__init__()
        self.error = error


class Told(Message):
    """One line for the operator: the equivalent command and what came of it."""

    def __init__(self, text: str, *, command: str = "", bad: bool = False) -> None:
        super().__init__()
        self.text = text
        self.command = command
        self.bad = bad


# From the console's own parts


class Moved(Message):
    """The operator moved the cursor or the viewport of the view."""


class Changed(Message):
    """A view shows something else: the lines at the edges may have to follow."""
