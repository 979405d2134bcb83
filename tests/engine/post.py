"""Receivers of notifications on loopback, and workers' ways to them."""

from __future__ import annotations

import ssl
from asyncio.base_events import Server
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from standardwebhooks.webhooks import Webhook

from jobdeck.clock import Clock
from jobdeck.delivery import MakeSender, Sender
from jobdeck.delivery.mail import MailSender, MailServer
from jobdeck.delivery.webhook import WebhookSender
from jobdeck.net import AddressPolicy, GuardedClient
from tests.handlers.api import Asked

# Made once: to read all certificates takes longer than the rest of a sender's start.
_TLS = ssl.create_default_context()


def webhook_sender(*allow: str, clock: Clock | None = None) -> Sender:
    """As a worker makes it, with these networks open."""
    return WebhookSender(GuardedClient(AddressPolicy(allow), ssl_context=_TLS, signs=True), clock)


def webhooks(*allow: str) -> Mapping[str, MakeSender]:
    """A worker's senders of callbacks and webhooks; loopback is open unless others are given."""

    def make() -> Sender:
        return webhook_sender(*(allow or ("127.0.0.1/32",)))

    return {"callback": make, "webhook": make}


def verified(asked: Asked, secret: str) -> Any:
    """What a request says, if the reference library takes its signature; raises WebhookVerificationError."""
    headers = {name.lower(): value for name, value in asked.headers.items()}
    return Webhook(secret).verify(asked.body, headers)


def id_of(asked: Asked) -> str:
    """The header `webhook-id`."""
    return {name.lower(): value for name, value in asked.headers.items()}["webhook-id"]


@dataclass
class Mailbox:
    """An SMTP server that keeps what it takes. `answers` are given to recipients or to the whole, before it takes."""

    port: int
    messages: list[EmailMessage]
    to: list[list[str]]
    answers: dict[str, str]

    def server(self, **facts: Any) -> MailServer:
        """As a configuration names it."""
        return MailServer("127.0.0.1", self.port, "deck@example.com", **({"starttls": False} | facts))

    def senders(self, **facts: Any) -> Mapping[str, MakeSender]:
        """A worker's sender of mail."""
        server = self.server(**facts)
        return {"email": lambda: MailSender(server)}


class _Taker:
    def __init__(self, box: Mailbox) -> None:
        self._box = box

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if (answer := self._box.answers.get(address)) is not None:
            return answer
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if (answer := self._box.answers.get("DATA")) is not None:
            return answer
        assert isinstance(envelope.content, bytes)
        message = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(message, EmailMessage)
        self._box.messages.append(message)
        self._box.to.append(list(envelope.rcpt_tos))
        return "250 OK"


class _AnyPort(Controller):
    """A controller that looks at itself by the port it was given, which it asked for as 0."""

    def _trigger_server(self) -> None:
        assert isinstance(self.server, Server)
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()  # type: ignore[no-untyped-call]


@contextmanager
def mailing() -> Iterator[Mailbox]:
    """The server, on a free port of 127.0.0.1, until the block ends."""
    box = Mailbox(0, [], [], {})
    controller = _AnyPort(_Taker(box), hostname="127.0.0.1", port=0)
    controller.start()
    box.port = controller.port
    try:
        yield box
    finally:
        controller.stop()
