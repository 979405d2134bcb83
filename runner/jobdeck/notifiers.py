"""Who is told that a run has ended, and of what: the values; a job declares them, a transaction writes them down.

What is told is one JSON object, fixed when the run ends. It never has the params of a run.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final, NamedTuple, Self
from uuid import UUID

import pydantic
from pydantic import BaseModel, ConfigDict, Field, model_validator

from jobdeck import limits
from jobdeck.ids import show_id
from jobdeck.states import Status

CALLBACK: Final = "callback"
"""The channel of a run's own `callback_url`."""
WEBHOOK: Final = "webhook"
EMAIL: Final = "email"
TEAM: Final = "team"
"""As the endpoint of an e-mail: the team's addresses, which the sender's configuration knows."""
_ADDRESS: Final = re.compile(r"[!-~]{1,64}@[A-Za-z0-9.-]{1,189}", re.ASCII)
_ODD: Final = frozenset('<>()[],;:\\"')


class End(StrEnum):
    """Ends of a run that somebody may want to be told of."""

    COMPLETED = "completed"
    FAILED = "failed"
    """failed, dead or expired."""
    CANCELLED = "cancelled"


def end_of(status: Status) -> End:
    """The kind of end that a final status is."""
    if status in (Status.COMPLETED, Status.CANCELLED):
        return End(status.value)
    return End.FAILED


def checked_address(text: str) -> str:
    """An e-mail address in ASCII. Raises ValueError."""
    # Anything else would have to be quoted, or would be several addresses.
    if not _ADDRESS.fullmatch(text) or _ODD & set(text) or text.count("@") != 1:
        raise ValueError(f"{text[:60]!r} is no e-mail address")
    return text


Address = Annotated[str, pydantic.AfterValidator(checked_address)]


class NotifierPart(BaseModel):
    """One entry of `notifiers` in the definition of a job."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Annotated[str, Field(pattern=limits.NOTIFIER_PATTERN)]
    """`webhook`, `email`, or the type that an installed package brings."""
    target: Annotated[str, Field(max_length=limits.URL_CHARS)] = ""
    """The URL of a webhook; what the type of a package makes of it. It is shown: no place for secrets."""
    to: Annotated[tuple[Address, ...], Field(max_length=limits.ADDRESSES)] = ()
    """Addresses of an e-mail."""
    on: Annotated[tuple[End, ...], Field(min_length=1)] = (End.COMPLETED, End.FAILED)

    @model_validator(mode="after")
    def _has_a_receiver(self) -> Self:
        if self.type == CALLBACK:
            raise ValueError("a callback_url is stated with a run; the type for a job is webhook")
        if self.type == EMAIL and (not self.to or self.target):
            raise ValueError("an e-mail needs addresses in `to`, and has no target")
        if self.type != EMAIL and self.to:
            raise ValueError("only an e-mail has addresses in `to`; use target")
        if self.type == WEBHOOK and not self.target:
            raise ValueError("a webhook needs a URL as its target")
        if not self.target.isprintable():
            raise ValueError("a target is printable text on one line")
        return self


class Receiver(NamedTuple):
    """Where one notification goes."""

    channel: str
    endpoint: str


def receivers(
    facts: Mapping[str, Any], status: Status, *, notify: bool, callback_url: str | None
) -> list[Receiver]:
    """Who is told of this end, each once. `facts` is a job's definition as it is stored; empty without a job.

    With `notify` the e-mail of completion and failure goes to the addresses of the job whatever they are told of
    otherwise, or to those of the team where the job names none.
    """
    end, found = end_of(status), []
    if callback_url:
        found.append(Receiver(CALLBACK, callback_url))
    if url := facts.get("webhook_url"):
        found.append(Receiver(WEBHOOK, str(url)))
    declared = list(_declared(facts))
    found += [_receiver(each) for each in declared if end in each.on]
    if notify and end is not End.CANCELLED:
        found += [_receiver(each) for each in declared if each.type == EMAIL] or [Receiver(EMAIL, TEAM)]
    return list(dict.fromkeys(found))


def _declared(facts: Mapping[str, Any]) -> Iterator[NotifierPart]:
    given = facts.get("notifiers")
    for each in given if isinstance(given, list) else ():
        try:
            yield NotifierPart.model_validate(each)
        except pydantic.ValidationError:
            # Of a newer jobdeck: the run ends all the same, and whoever can be told is told.
            continue


def _receiver(part: NotifierPart) -> Receiver:
    return Receiver(part.type, ", ".join(part.to) if part.type == EMAIL else part.target)


class DeliveryState(StrEnum):
    """What has become of a notification."""

    PENDING = "pending"
    SENDING = "sending"
    DELIVERED = "delivered"
    FAILED = "failed"
    DISABLED = "disabled"
    """Its endpoint has asked for nothing more (HTTP 410)."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One notification to one receiver, as everybody reads it."""

    id: UUID
    run_id: UUID
    event: str
    channel: str
    endpoint: str
    state: DeliveryState
    tries: int
    tries_max: int
    next_at: datetime
    """When it is tried next, while it is pending; a sender that falls silent loses it then."""
    response_code: int | None
    last_error: str | None
    created_at: datetime
    delivered_at: datetime | None
    body: str | None = None
    """What is sent, to the byte; None in lists."""

    @property
    def shown_id(self) -> str:
        """Also what the receiver sees, in the header `webhook-id` or in `Message-ID`: equal in every try."""
        return show_id("msg", self.id)


@dataclass(frozen=True, slots=True)
class Notification:
    """What a notifier of a package is asked to deliver."""

    id: str
    """Equal in every try: the receiver tells repetitions by it."""
    event: str
    """`run.completed`, `run.failed`, `run.dead`, `run.cancelled` or `run.expired`."""
    at: datetime
    target: str
    run: Mapping[str, Any]
    """run_id, job, job_type, team, project, status, failure_kind, attempt, error, started_at, finished_at, …"""
    body: str
    """The whole message as JSON text."""


Deliver = Callable[[Notification, Mapping[str, Any]], Awaitable[None]]
"""What a package offers under the entry point `jobdeck.notifiers`: the message, and the settings of `[plugin.TYPE]`.

Raise `Retry` to have it tried again, `Discard` to give up; any other error is tried again too.
"""
