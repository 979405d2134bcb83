"""What several commands read from their options."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from jobdeck.errors import ValidationError

if TYPE_CHECKING:
    from jobdeck.client import Client
    from jobdeck.model import RunFilter
    from jobdeck.retry import Backoff
    from jobdeck.states import Condition


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


def json_object(text: str | None, what: str) -> dict[str, Any] | None:
    """A JSON object; None stays None. Raises ValidationError."""
    from jobdeck import jsonio
    from jobdeck.limits import METADATA_BYTES

    if text is None:
        return None
    value = jsonio.loads(text, what=what, limit=METADATA_BYTES)
    if not isinstance(value, dict):
        raise ValidationError(f'{what} must be a JSON object, like {{"key": "value"}}', field=what)
    return value


def backoff(growth: str | None, first: str | None, longest: str | None, delays: str | None) -> Backoff | None:
    """A backoff of its own; None where nothing is stated. Raises ValidationError."""
    from jobdeck.durations import parse_duration
    from jobdeck.retry import Backoff, Growth

    if (growth, first, longest, delays) == (None, None, None, None):
        return None
    if delays is not None and (growth, first) != (None, None):
        raise ValidationError(
            "--retry-delays states the waits one by one; leave --backoff and --retry-delay", field="backoff"
        )
    growths = [each for each in Growth if each is not Growth.CUSTOM]
    if growth is not None and growth not in growths:
        raise ValidationError(
            f"--backoff is {', '.join(growths)}, not {growth[:40]!r}; a list goes to --retry-delays",
            field="backoff",
        )
    plain = Backoff()
    return Backoff(
        base=plain.base if first is None else parse_duration(first).total_seconds(),
        cap=plain.cap if longest is None else parse_duration(longest).total_seconds(),
        growth=Growth.CUSTOM if delays is not None else Growth(growth or Growth.EXPONENTIAL),
        delays=tuple(
            parse_duration(each.strip()).total_seconds() for each in (delays or "").split(",") if each
        ),
    )


async def waits(client: Client, words: Sequence[str]) -> list[tuple[UUID, Condition]]:
    """`RUN` or `RUN:condition`, each. Raises ValidationError, NotFound."""
    from jobdeck.states import Condition

    found = []
    for word in words:
        run, colon, condition = word.partition(":")
        if colon and condition not in set(Condition):
            raise ValidationError(
                f"--after takes RUN:{'|'.join(Condition)}, not {condition[:40]!r}", field="after"
            )
        found.append((await client.runs.resolve(run), Condition(condition or Condition.COMPLETED)))
    return found


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
    trigger_type: str | None,
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
        trigger_type=trigger_type,
    )


async def of_job(client: Client, chosen: RunFilter, job: str | None) -> RunFilter:
    """The filter, of the runs of a saved job alone where one is named. Raises NotFound."""
    from dataclasses import replace

    return chosen if job is None else replace(chosen, job_id=await client.jobs.resolve(job))


def _when(name: str, text: str | None, now: datetime, parse: object) -> datetime | None:
    if text is None:
        return None
    try:
        found: datetime = parse(text, now)  # type: ignore[operator]
    except ValidationError as error:
        raise ValidationError(f"--{name}: {error}", field=name) from None
    return found
