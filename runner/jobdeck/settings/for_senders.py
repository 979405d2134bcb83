"""How a worker with these settings sends notifications."""

from __future__ import annotations

import logging
import socket
from collections.abc import Mapping
from functools import cache, partial

from jobdeck.delivery import MakeSender, Sender
from jobdeck.delivery.package import PackageSender, load_notifiers
from jobdeck.errors import ConfigError, JobdeckError
from jobdeck.notifiers import CALLBACK, EMAIL, WEBHOOK
from jobdeck.secret import Secret, remember
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
    for name, deliver in offered.items():
        senders[name] = partial(PackageSender, deliver, settings.plugin.get(name, {}))
    return senders


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
