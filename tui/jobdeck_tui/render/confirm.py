"""The question before a write: what would happen to which run. Frozen when the key is pressed."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from jobdeck.ids import tail
from jobdeck.model import Run
from jobdeck_tui.render.spans import Line, joined, line_width, safe, spread
from jobdeck_tui.render.states import look

YES = "y"
REASON = "w"


@dataclass(frozen=True, slots=True)
class Question:
    """A write that waits for its yes. `opener` is the key that asked; it never answers."""

    verb: str
    run_id: UUID
    short_id: str
    job_type: str
    word: str
    team: str
    opener: str
    reason: str = ""
    seen: str | None = None
    """Digest of the request that was shown: a decision on it is about nothing else."""

    @property
    def lacks_reason(self) -> bool:
        """Whether it cannot be answered with yes before a reason is given."""
        return self.verb == "reject" and not self.reason


def ask(verb: str, run: Run, opener: str) -> Question:
    """The question about a run as it is shown now."""
    short = tail(run.shown_id)
    return Question(
        verb,
        run.id,
        short,
        safe(run.job_type, 40),
        look(run.label).word,
        safe(run.team, 40),
        opener,
        seen=run.request_hash,
    )


def confirm_line(question: Question, width: int) -> Line:
    """`Cancel 7f3k2x http_sync, running, team acme?   y yes  N no  w with a reason`; the answers are never cut."""
    yes: Line = () if question.lacks_reason else ((f"{YES}", "key"), (" yes  ", "ask"))
    keys: Line = (*yes, ("N", "key"), (" no  ", "ask"), (REASON, "key"))
    keys = (*keys, (" new reason " if question.reason else " add reason ", "ask"))
    subject = f" {question.verb.capitalize()} run {question.short_id}"
    kind = f"{subject} {question.job_type}"
    told = f" because: {question.reason}" if question.reason else ""
    for shown in ((kind, question.word, f"team {question.team}"), (kind, question.word), (subject,)):
        left: Line = ((f"{', '.join(shown)}?{told}", "ask"),)
        if line_width(joined([left, keys])) <= width:
            break
    return spread(left, keys, width)
