"""The language of the `/` line: text to a filter and back. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from jobdeck.durations import parse_when
from jobdeck.errors import ValidationError
from jobdeck.limits import FILTER_CHARS
from jobdeck.model import RunFilter
from jobdeck.states import GROUPS, Label, Status

_TOKEN = re.compile(r'(!?)(?:([a-z]+):)?("[^"]*"|\S+)')
FIELDS: Final = ("status", "group", "type", "queue", "category", "project", "since", "until")
_NAMES: Final = tuple(str(name) for name in (*Status, *Label))


@dataclass(frozen=True, slots=True)
class FilterLine:
    """A filter as the operator wrote it; `since` and `until` stay as written, because `1h` moves with the clock."""

    statuses: frozenset[str] = frozenset()
    job_type: str | None = None
    queue: str | None = None
    category: str | None = None
    project: str | None = None
    since: str | None = None
    until: str | None = None
    text: str | None = None

    @property
    def group(self) -> str | None:
        """The group these statuses are: `all` for none, None where they are no group."""
        if not self.statuses:
            return "all"
        return next((name for name, members in GROUPS.items() if members == self.statuses), None)

    def with_group(self, name: str) -> FilterLine:
        """The same filter for another group of statuses."""
        return replace(self, statuses=frozenset() if name == "all" else frozenset(GROUPS[name]))

    def matches_status(self, status: str, label: str) -> bool:
        """Whether a run of this status still belongs here; the other parts of a filter never change for a run."""
        return not self.statuses or status in self.statuses or label in self.statuses

    def to_run_filter(self, now: datetime) -> RunFilter:
        """The filter for the client. Raises ValidationError for a time that is none."""
        return RunFilter(
            statuses=self.statuses,
            job_type=self.job_type,
            queue=self.queue,
            category=self.category,
            project=self.project,
            since=parse_when(self.since, now) if self.since else None,
            until=parse_when(self.until, now) if self.until else None,
            text=self.text,
        )

    def to_text(self) -> str:
        """The line that parses to this filter."""
        parts = [self._status_text()]
        for name, value in (
            ("type", self.job_type),
            ("queue", self.queue),
            ("category", self.category),
            ("project", self.project),
            ("since", self.since),
            ("until", self.until),
        ):
            if value:
                parts.append(f"{name}:{_quoted(value)}")
        if self.text:
            parts.append(_quoted(self.text, free=True))
        return " ".join(part for part in parts if part)

    def _status_text(self) -> str:
        if not self.statuses:
            return ""
        if self.group is not None and len(self.statuses) > 1:
            return f"group:{self.group}"
        return "status:" + ",".join(sorted(self.statuses))


def parse_filter(line: str) -> FilterLine:
    """Read a filter line. Raises ValidationError that says which word is wrong and what would be right."""
    if len(line) > FILTER_CHARS:
        raise ValidationError(f"a filter has at most {FILTER_CHARS} characters")
    found = FilterLine()
    words: list[str] = []
    for negated, field, raw in _TOKEN.findall(line):
        value = raw.strip('"')
        if not field and value.removesuffix(":") in FIELDS and value.endswith(":"):
            raise ValidationError(f"{value} needs a value")
        if not field:
            words.append(f"{negated}{value}")
        elif negated and field != "status":
            raise ValidationError(f"only a status can be negated, not {field}; write !status:completed")
        else:
            found = _with(found, field, value, negated=bool(negated))
    return replace(found, text=" ".join(words) or None)


def _with(found: FilterLine, field: str, value: str, *, negated: bool) -> FilterLine:
    if field == "status":
        names = frozenset(_status(name) for name in value.split(",") if name)
        return replace(
            found, statuses=frozenset(map(str, Status)) - names if negated else found.statuses | names
        )
    if field == "group":
        if value not in GROUPS:
            raise ValidationError(f"{value[:40]!r} is not a group; choose from {', '.join(GROUPS)}")
        return found.with_group(value)
    if field == "type":
        return replace(found, job_type=value)
    if field == "queue":
        return replace(found, queue=value)
    if field == "category":
        return replace(found, category=value)
    if field == "project":
        return replace(found, project=value)
    if field in ("since", "until"):
        parse_when(value, _ANY_TIME)
        return replace(found, since=value) if field == "since" else replace(found, until=value)
    near = difflib.get_close_matches(field, FIELDS, n=1)
    hint = f"did you mean {near[0]}:?" if near else f"known: {', '.join(FIELDS)}"
    raise ValidationError(f'unknown field {field!r}; {hint} (in quotes, "{field}:…" is searched for as text)')


_ANY_TIME = datetime.fromisoformat("2000-01-01T00:00:00+00:00")


def _status(name: str) -> str:
    if name in _NAMES:
        return name
    near = difflib.get_close_matches(name, _NAMES, n=1)
    hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(_NAMES)}"
    raise ValidationError(f"{name[:40]!r} is not a status; {hint}")


def _quoted(value: str, *, free: bool = False) -> str:
    value = value.replace('"', "")
    return f'"{value}"' if " " in value or (free and re.match(r"!?[a-z]+:", value)) else value


def complete(line: str, job_types: Iterable[str]) -> str | None:
    """The line with its last word completed, or None: fields, then the values of status, group and type."""
    head, _, word = line.rpartition(" ")
    field, colon, value = word.partition(":")
    if not word:
        return None
    if not colon:
        options = [f"{name}:" for name in FIELDS]
    else:
        choices = {"status": _NAMES, "group": tuple(GROUPS), "type": tuple(job_types)}.get(
            field.lstrip("!"), ()
        )
        done, comma, value = value.rpartition(",")
        options = [f"{field}:{done}{comma}{name}" for name in choices]
        word = f"{field}:{done}{comma}{value}"
    found = next((option for option in options if option.startswith(word) and option != word), None)
    if found is None:
        return None
    return f"{head} {found}" if head else found
