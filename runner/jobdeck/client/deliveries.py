"""Notifications that were sent or are to be sent, and the secrets and endpoints of webhooks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias
from uuid import UUID

from jobdeck import limits
from jobdeck.client.guard import acts, needs
from jobdeck.client.session import Session
from jobdeck.delivery.signature import checked_secret, new_secret
from jobdeck.errors import NotFound, ValidationError
from jobdeck.ids import parse_id, parse_part, show_id
from jobdeck.notifiers import Delivery, DeliveryState
from jobdeck.people import Permission
from jobdeck.store.outbox import deliveries as store
from jobdeck.store.outbox import webhooks
from jobdeck.store.outbox.letters import Resend, resend
from jobdeck.store.outbox.webhooks import DisabledEndpoint, WebhookSecret
from jobdeck.text import quoted

Deliveries: TypeAlias = list[Delivery]


class DeliveriesApi:
    """The notifications of the client's team."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @needs(Permission.JOBS_READ)
    async def list(
        self,
        *,
        run_id: UUID | None = None,
        state: str | None = None,
        limit: int = limits.PAGE_DEFAULT,
    ) -> Deliveries:
        """Newest first, without what they say. Raises ValidationError."""
        if state is not None and state not in set(DeliveryState):
            raise ValidationError(
                f"{quoted(state, 40)} is no state; choose from {', '.join(DeliveryState)}", field="state"
            )
        if not 1 <= limit <= limits.PAGE_MAX:
            raise ValidationError(f"limit lies between 1 and {limits.PAGE_MAX}, not {limit}", field="limit")
        chosen = None if state is None else DeliveryState(state)
        return await self._session.read(store.list_deliveries, run_id=run_id, state=chosen, limit=limit)

    @needs(Permission.JOBS_READ)
    async def resolve(self, text: str) -> UUID:
        """An id, or a part of 4 characters or more. Raises NotFound, ValidationError."""
        part = parse_part("msg", text)
        if isinstance(part, UUID):
            return part
        found = await self._session.read(store.deliveries_like, part)
        if not found:
            raise NotFound(f"no delivery {quoted(text, 60)} in this team; see: jobdeck deliveries list")
        if len(found) > 1:
            shown = ", ".join(show_id("msg", each) for each in found[:3])
            raise ValidationError(f"{quoted(text, 60)} stands for several: {shown}", field="id")
        return found[0]

    @needs(Permission.JOBS_READ)
    async def show(self, delivery_id: UUID) -> Delivery:
        """One with what it says. Raises NotFound."""
        found = await self._session.read(store.find_delivery, delivery_id)
        if found is None:
            shown = show_id("msg", delivery_id)
            raise NotFound(f"no delivery {shown} in this team; see: jobdeck deliveries list")
        return found

    @acts("delivery.resend", Permission.JOBS_WRITE, on="msg")
    async def resend(self, delivery_id: UUID) -> Delivery:
        """Try it again now, under the same id and with as many tries as a new one has. Raises NotFound, Conflict."""
        await self._session.database.write(resend, Resend(self._session.scope.team_id, delivery_id))
        return await self.show(delivery_id)


@dataclass(frozen=True, slots=True)
class NewSecret:
    """A secret that has just been put in place: whoever is told it here is told it once."""

    secret: str
    old_until: datetime | None
    """Until then the one before signs as well."""


@dataclass(frozen=True, slots=True)
class Webhooks:
    """What there is, but for the secrets themselves."""

    secrets: list[WebhookSecret]
    disabled: list[DisabledEndpoint]


class WebhooksApi:
    """Secrets and endpoints of the client's team."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @needs(Permission.JOBS_READ)
    async def list(self) -> Webhooks:
        """For what there are secrets, and which endpoints want no more."""
        secrets = await self._session.read(webhooks.list_secrets)
        return Webhooks(secrets, await self._session.read(webhooks.list_disabled))

    @acts("webhook.rotate", Permission.ADMIN, on="job")
    async def rotate(
        self, job_id: UUID | None = None, *, secret: str | None = None, drop_old: bool = False
    ) -> NewSecret:
        """A new secret for a job, or for the callbacks of the team's runs; random unless one is brought along.

        The one before signs as well for 24 h, unless it is dropped. Raises NotFound, ValidationError.
        """
        chosen = new_secret() if secret is None else checked_secret(secret)
        session = self._session
        item = webhooks.Rotate(session.scope.team_id, job_id, chosen, session.actor, drop_old)
        return NewSecret(chosen, await session.database.write(webhooks.rotate, item))

    @acts("webhook.enable", Permission.JOBS_WRITE)
    async def enable(self, shown: str) -> UUID:
        """Let notifications go to an endpoint again. Raises NotFound, ValidationError."""
        item = webhooks.EnableEndpoint(self._session.scope.team_id, parse_id("hook", shown))
        return await self._session.database.write(webhooks.enable_endpoint, item)
