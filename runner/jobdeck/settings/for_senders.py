"""How a worker with these settings sends notifications."""

from __future__ import annotations

import logging
import socket
from collections.abc import Mapping
from functools import cache, partial
from typing import Any

from jobdeck.delivery import MakeSender, Sender
from jobdeck.delivery.package import PackageSender, load_notifiers
from jobdeck.errors import ConfigError, JobdeckError
from jobdeck.notifiers import CALLBACK, EMAIL, WEBHOOK
from jobdeck.secret import Lookup, Secret, hides, remember, resolve
from jobdeck.secret.vault import Vault
from jobdeck.settings.model import Settings

_log = logging.getLogger("jobdeck.runner")


def senders_of(settings: Settings, vault: Vault) -> Mapping[str, MakeSender]:
    """By channel: callbacks and webhooks always, e-mail with a server, and the notifiers of installed packages.

    Raises ConfigError.
    """

    @cache
    def webhooks() -> Sender:
        from jobdeck.delivery.webhook import WebhookSender
        from jobdeck.net import AddressPolicy, GuardedClient

        http = settings.http
        return WebhookSender(GuardedClient(AddressPolicy(http.allow), per_host=http.per_host, signs=True))

    senders: dict[str, MakeSender] = {CALLBACK: webhooks, WEBHOOK: webhooks}
    if settings.smtp.host:
        senders[EMAIL] = _mail(settings, vault)
    offered, broken = load_notifiers()
    for each in broken:
        _log.warning("the notifier %s cannot be used: %s", each.source, each.reason)
    look_up = vault.for_configuration(settings.team)
    for name, deliver in offered.items():
        try:
            own = _with_secrets(settings.plugin.get(name, {}), look_up)
        except JobdeckError as error:
            raise ConfigError(f"[plugin.{name}]: {error}") from None
        senders[name] = partial(PackageSender, deliver, own)
    return senders


def _with_secrets(value: Any, look_up: Lookup, name: str = "") -> Any:
    """With values in place of references; those are masked from now on, and what has the name of a secret."""
    if isinstance(value, dict):
        return {key: _with_secrets(item, look_up, key) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_secrets(item, look_up, name) for item in value]
    if not isinstance(value, str):
        return value
    if Secret.is_reference(value):
        return resolve(value, look_up)
    if hides(name, value):
        remember(value)
    return value


def _mail(settings: Settings, vault: Vault) -> MakeSender:
    from jobdeck.delivery.mail import MailSender, MailServer

    smtp = settings.smtp
    server = MailServer(
        smtp.host,
        smtp.port,
        smtp.sender or f"jobdeck@{socket.getfqdn()}",
        smtp.starttls,
        smtp.username,
        _password(settings, vault),
        tuple(smtp.to),
        smtp.teams,
    )
    return lambda: MailSender(server)


def _password(settings: Settings, vault: Vault) -> str:
    password = settings.smtp.password
    if Secret.is_reference(password):
        try:
            password = vault.for_configuration(settings.team)(password.removeprefix("secret://").upper())
        except JobdeckError as error:
            raise ConfigError(f"the password of [smtp]: {error}") from None
    if password:
        remember(password)
    return password
