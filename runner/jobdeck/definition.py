"""The definition of a job: what is run, how, under which policies. It is stored whole, one version after another.

Written as JSON or TOML with the names of the fields; durations like `30s`. What is left out takes the job type's own
default, or the default given here.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Self

import pydantic
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import ErrorDetails

from jobdeck import jsonio, limits
from jobdeck.cron import CronSchedule, ExecutionWindow
from jobdeck.durations import Duration
from jobdeck.errors import ValidationError
from jobdeck.notifiers import WEBHOOK, NotifierPart
from jobdeck.retry import Backoff, Growth, checked
from jobdeck.states import CatchUp, OnConflict, Overlap
from jobdeck.text import clean, quoted


class VersionPolicy(StrEnum):
    """Which version of its job a queued run uses."""

    PIN = "pin"
    """The one it was made with."""
    LATEST = "latest"
    """The newest one when it begins, if that says that it is backwards compatible."""


def _inert(text: str) -> str:
    return clean(text)


Name = Annotated[str, Field(max_length=limits.NAME_CHARS), pydantic.AfterValidator(_inert)]
Label = Annotated[str, Field(pattern=limits.LABEL_PATTERN)]
TagText = Annotated[str, Field(max_length=limits.TAG_CHARS), pydantic.AfterValidator(_inert)]
Seconds = Annotated[float, Field(ge=0, le=limits.DELAY_MAX)]


class Part(BaseModel):
    """One object of a definition."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class BackoffPart(Part):
    """Waits before retries: see `jobdeck.Backoff`. Numbers are seconds."""

    growth: Growth = Growth.EXPONENTIAL
    base: Seconds = limits.BACKOFF_BASE
    factor: float = limits.BACKOFF_FACTOR
    cap: Seconds = limits.BACKOFF_CAP
    delays: tuple[Seconds, ...] = ()
    jitter: bool | None = None

    @model_validator(mode="after")
    def _can_work(self) -> Self:
        try:
            self.backoff()
        except ValidationError as error:
            raise ValueError(str(error)) from None
        return self

    def backoff(self) -> Backoff:
        """As handlers state it. Raises ValidationError."""
        return checked(Backoff(self.base, self.factor, self.cap, self.growth, self.delays, self.jitter))


class SchedulePart(Part):
    """When a job fires by itself."""

    cron: str
    timezone: str = "UTC"
    jitter: Annotated[int, Field(ge=0, le=limits.CRON_JITTER_MAX)] = 0
    """Seconds; each job has its own share of them, always the same."""
    start: datetime | None = None
    """No fire before this time."""
    end: datetime | None = None
    """No fire after this time."""
    catch_up: CatchUp = CatchUp.ONE
    catch_up_max: Annotated[int, Field(ge=1, le=limits.CATCH_UP_MAX)] = limits.CATCH_UP
    misfire_grace: Duration = timedelta(seconds=limits.MISFIRE_GRACE)
    """A fire that is later than this was missed, and is a matter of `catch_up`."""
    overlap: Overlap = Overlap.ALLOW

    @field_validator("start", "end")
    @classmethod
    def _in_utc(cls, value: datetime | None) -> datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError("a time needs a time zone")
        return None if value is None else value.astimezone(UTC)

    @model_validator(mode="after")
    def _can_fire(self) -> Self:
        try:
            self.schedule("")
        except ValidationError as error:
            raise ValueError(f"{error.field}: {error}") from None
        if self.start is not None and self.end is not None and self.end <= self.start:
            raise ValueError("it ends before it starts")
        return self

    def schedule(self, key: str) -> CronSchedule:
        """Its fires; `key` chooses the share of the jitter. Raises ValidationError."""
        return CronSchedule(self.cron, self.timezone, jitter=self.jitter, key=key)


class RatePart(Part):
    """At most so many runs begin in any stretch of time of this length."""

    max: Annotated[int, Field(ge=1, le=limits.RATE_MAX)]
    window: Duration

    @field_validator("window")
    @classmethod
    def _in_bounds(cls, value: timedelta) -> timedelta:
        if not 1 <= value.total_seconds() <= limits.RATE_WINDOW_MAX:
            raise ValueError("a rate window lies between 1s and 1d")
        return value


class NamedRatePart(RatePart):
    """A rate that jobs of a team share by its name; each may state its own number."""

    name: Label


class WindowPart(Part):
    """The minutes in which runs may begin: see `jobdeck.cron.ExecutionWindow`."""

    cron: str
    timezone: str = "UTC"

    @model_validator(mode="after")
    def _can_open(self) -> Self:
        try:
            self.window().check(datetime.now(UTC))
        except ValidationError as error:
            raise ValueError(f"{error.field}: {error}") from None
        return self

    def window(self) -> ExecutionWindow:
        """The window. Raises ValidationError."""
        return ExecutionWindow(self.cron, self.timezone)


Concurrency = Annotated[int, Field(ge=1, le=limits.CONCURRENCY_MAX)]


class JobDefinition(Part):
    """Everything about a job but its slug, its project and whether it is enabled."""

    type: Annotated[str, Field(pattern=limits.JOB_TYPE_PATTERN)]
    """Job type."""
    name: Name = ""
    """For people; empty takes the title of the type."""
    description: Annotated[str, Field(max_length=limits.DESCRIPTION_CHARS)] = ""
    params: dict[str, Any] = {}
    payload_schema: dict[str, Any] | None = None
    """JSON Schema that the params of its runs must fit too; it can only narrow what the handler takes."""
    queue: Annotated[str, Field(pattern=limits.QUEUE_PATTERN)] = limits.DEFAULT_QUEUE
    priority: Annotated[int, Field(ge=limits.PRIORITY_MIN, le=limits.PRIORITY_MAX)] = limits.PRIORITY_DEFAULT
    delay: Duration | None = None
    """How long after its trigger a run is due."""
    ttl: Duration | None = None
    """A run that has not begun by then expires."""
    timeout: Duration | None = None
    max_attempts: Annotated[int, Field(ge=limits.MAX_ATTEMPTS_MIN, le=limits.MAX_ATTEMPTS_MAX)] | None = None
    backoff: BackoffPart | None = None
    tags: Annotated[dict[TagText, TagText], Field(max_length=limits.TAGS)] = {}
    metadata: dict[str, Any] = {}
    """Merged under a run's own."""
    environment: Label | None = None
    group: Label | None = None
    requires_approval: bool = False
    notify: bool = False
    """Whether its runs send e-mail when they complete or fail, whoever triggers them."""
    webhook_url: Annotated[str, Field(max_length=limits.URL_CHARS)] | None = None
    """Told of every end of a run. Its secret is no part of a definition: `jobdeck webhooks rotate`."""
    notifiers: Annotated[tuple[NotifierPart, ...], Field(max_length=limits.NOTIFIERS)] = ()
    on_conflict: OnConflict | None = None
    max_concurrency: Concurrency | None = None
    """Runs of the job that run at the same time, on all workers together."""
    concurrency_key: Annotated[str, Field(min_length=1, max_length=limits.KEY_CHARS)] | None = None
    """The key of runs whose trigger states none."""
    max_concurrency_per_key: Concurrency | None = None
    """None: runs with the same key run one after the other."""
    rate_limit: RatePart | None = None
    rate_limit_keys: Annotated[tuple[NamedRatePart, ...], Field(max_length=limits.RATE_KEYS)] = ()
    execution_window: WindowPart | None = None
    schedule: SchedulePart | None = None
    version_policy: VersionPolicy = VersionPolicy.PIN
    backwards_compatible: bool = True
    """Whether queued runs with version_policy latest may move to this version."""

    @field_validator("params", "metadata", "payload_schema", mode="before")
    @classmethod
    def _read_json(cls, value: Any) -> Any:
        """TOML has no null: an object may be given as the text of its JSON."""
        if not isinstance(value, str):
            return value
        try:
            return jsonio.loads(value, what="it", limit=limits.PARAMS_BYTES)
        except ValidationError as error:
            raise ValueError(str(error)) from None

    @field_validator("params")
    @classmethod
    def _fits_params(cls, value: dict[str, Any]) -> dict[str, Any]:
        return _fits(value, "params", limits.PARAMS_BYTES)

    @field_validator("metadata")
    @classmethod
    def _fits_metadata(cls, value: dict[str, Any]) -> dict[str, Any]:
        return _fits(value, "metadata", limits.METADATA_BYTES)

    @field_validator("payload_schema")
    @classmethod
    def _is_schema(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value is None:
            return None
        import jsonschema

        try:
            jsonschema.Draft202012Validator.check_schema(value)
        except jsonschema.SchemaError as error:
            raise ValueError(f"it is no JSON Schema: {error.message[:160]}") from None
        return _fits(value, "payload_schema", limits.METADATA_BYTES)

    @property
    def announces(self) -> bool:
        """Whether somebody is told how its runs end."""
        return self.webhook_url is not None or bool(self.notifiers)

    @property
    def webhook_urls(self) -> list[str]:
        """All URLs of webhooks in it."""
        own = [] if self.webhook_url is None else [self.webhook_url]
        return own + [each.target for each in self.notifiers if each.type == WEBHOOK]

    def stored(self) -> str:
        """Compact JSON of what differs from the defaults."""
        return jsonio.dumps(self.facts(), what="definition", limit=limits.DEFINITION_BYTES)

    def facts(self) -> dict[str, Any]:
        """What differs from the defaults, as JSON values."""
        return self.model_dump(mode="json", exclude_defaults=True)


def merged_params(own: Mapping[str, Any], given: Mapping[str, Any] | None) -> dict[str, Any]:
    """The params of a job with those of a trigger over them, key by key."""
    return {**own, **(given or {})}


def _fits(value: dict[str, Any], what: str, limit: int) -> dict[str, Any]:
    try:
        jsonio.dumps(value, what=what, limit=limit)
    except ValidationError as error:
        raise ValueError(str(error)) from None
    return value


def _said(item: ErrorDetails) -> str:
    if item["type"] == "missing":
        return "it is needed"
    if item["type"] == "extra_forbidden":
        return "there is no such field"
    return item["msg"].removeprefix("Value error, ")


def _given(item: ErrorDetails) -> str:
    """What was given instead, where the message does not say it and a line has room for it."""
    value = item["input"]
    if item["type"] in ("string_too_long", "string_pattern_mismatch"):
        return (
            f", not {len(value):,} characters" if len(value) > limits.SLUG_CHARS else f", not {quoted(value)}"
        )
    return f", not {value}" if isinstance(value, int | float) and abs(value) <= 2**53 else ""


def parse_definition(facts: Mapping[str, Any]) -> JobDefinition:
    """The definition of these facts. Raises ValidationError with one line that names every wrong field."""
    try:
        return JobDefinition.model_validate(dict(facts))
    except pydantic.ValidationError as error:
        problems = []
        for item in error.errors(include_url=False)[:5]:
            place = ".".join(str(part) for part in item["loc"]) or "definition"
            problems.append(f"{place}: {_said(item)}{_given(item)}")
        more = error.error_count() - len(problems)
        words = "; ".join(problems) + (f"; and {more} more" if more > 0 else "")
        raise ValidationError(words, field=problems[0].split(":")[0]) from None
