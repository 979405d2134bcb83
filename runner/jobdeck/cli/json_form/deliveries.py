"""Notifications as JSON for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobdeck.cli.json_form.values import iso
from jobdeck.ids import show_id

if TYPE_CHECKING:
    from jobdeck.client.deliveries import NewSecret, Webhooks
    from jobdeck.notifiers import Delivery

Json = dict[str, Any]


def delivery_json(found: Delivery) -> Json:
    """One notification; `body`, the text as it is sent, only where it was asked for."""
    facts = {
        "id": found.shown_id,
        "run_id": show_id("run", found.run_id),
        "event": found.event,
        "channel": found.channel,
        "endpoint": found.endpoint,
        "state": str(found.state),
        "tries": found.tries,
        "tries_max": found.tries_max,
        "next_try_at": iso(found.next_at) if found.state == "pending" else None,
        "response_code": found.response_code,
        "last_error": found.last_error,
        "created_at": iso(found.created_at),
        "delivered_at": iso(found.delivered_at),
    }
    return facts if found.body is None else {**facts, "body": found.body}


def webhooks_json(found: Webhooks) -> Json:
    """For what there are secrets, and which endpoints want no more."""
    secrets = [
        {
            "job": each.job,
            "created_at": iso(each.created_at),
            "created_by": each.created_by,
            "previous_until": iso(each.previous_until),
        }
        for each in found.secrets
    ]
    disabled = [
        {
            "id": each.shown_id,
            "job": each.job,
            "url": each.url,
            "disabled_at": iso(each.disabled_at),
            "reason": each.reason,
        }
        for each in found.disabled
    ]
    return {"secrets": secrets, "disabled": disabled}


def secret_json(found: NewSecret) -> Json:
    """A secret that has just been made."""
    return {"secret": found.secret, "old_until": iso(found.old_until)}
