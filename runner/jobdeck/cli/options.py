"""What several commands read from their options."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from jobdeck.errors import ValidationError

if TYPE_CHECKING:
    from jobdeck.model import RunFilter


def duration(text: str | None) -> timedelta | None:
    """`5m`; None stays None. Raises ValidationError."""
    from jobdeck.durations import parse_duration

    return None if text is None else parse_duration(text)


def moment(text: str | None) -> datetime | None:
    """A point in time; None stays None. Raises ValidationError."""
    from jobdeck.durations import parse_time

    return None if text is None else parse_time(text)


def tags(pairs: Sequence[str]) -> dict[str, str] | None:
    """`key=value` pairs. Raises ValidationError."""
    from jobdeck.cli.params import split_pairs

    return split_pairs(pairs, "--tag") or None


def run_filter(
    statuses: Sequence[str],
    group: str | None,
    job_type: str | None,
    queue: str | None,
    category: str | None,
    in_project: str | None,
    since: str | None,
    until: str | None,
    text: str | None,
) -> RunFilter:
    """The filter of `runs list`. Raises ValidationError."""
    from datetime import UTC

    from jobdeck.durations import parse_when
    from jobdeck.model import RunFilter
    from jobdeck.states import GROUPS

    if group is not None and group not in GROUPS:
        raise ValidationError(
            f"{group[:40]!r} is not a group; choose from {', '.join(GROUPS)}", field="group"
        )
    now = datetime.now(UTC)
    return RunFilter(
        statuses=frozenset(statuses) | (GROUPS[group] if group else frozenset()),
        job_type=job_type,
        queue=queue,
        category=category,
        project=in_project,
        since=_when("since", since, now, parse_when),
        until=_when("until", until, now, parse_when),
        text=text,
    )


def _when(name: str, text: str | None, now: datetime, parse: object) -> datetime | None:
    if text is None:
        return None
    try:
        found: datetime = parse(text, now)  # type: ignore[operator]
    except ValidationError as error:
        raise ValidationError(f"--{name}: {error}", field=name) from None
    return found
