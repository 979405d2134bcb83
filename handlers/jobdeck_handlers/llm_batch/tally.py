"""What a run has done so far, over all its attempts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

from jobdeck_handlers.llm_batch.answer import Answer


class RowError(TypedDict):
    """Why one row has no answer."""

    key: str
    error: str


class BatchResult(TypedDict):
    """Result of `llm_batch`: counts of rows and tokens over all attempts of the run."""

    rows: int
    answered: int
    failed: int
    skipped: int
    """Had an answer to the same question before the run."""
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    errors: list[RowError]
    """The first ones, by key; the others are in the table."""
    table: str


@dataclass(slots=True)
class Tally:
    """Counts of rows and tokens."""

    total: int = 0
    answered: int = 0
    failed: int = 0
    skipped: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0

    @property
    def processed(self) -> int:
        return self.answered + self.failed + self.skipped

    @property
    def message(self) -> str:
        """One line for people."""
        failed = f", {self.failed} failed" if self.failed else ""
        return f"Answered {self.answered}{failed}, {self.total_tokens:,} tokens"

    def add(self, answers: Sequence[Answer]) -> None:
        """Count what has been stored."""
        for each in answers:
            self.answered += each.error is None
            self.failed += each.error is not None
            self.prompt_tokens += each.usage.prompt or 0
            self.completion_tokens += each.usage.completion or 0
            self.total_tokens += each.usage.total or 0

    def result(self, table: str, errors: list[RowError]) -> BatchResult:
        return BatchResult(
            rows=self.processed,
            answered=self.answered,
            failed=self.failed,
            skipped=self.skipped,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            total_tokens=self.total_tokens,
            errors=errors,
            table=table,
        )
