"""Signatures of webhooks, as https://www.standardwebhooks.com states them: HMAC-SHA256 over `id.timestamp.body`."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from typing import Final

from jobdeck.errors import ValidationError

_PREFIX: Final = "whsec_"
# The standard: between 24 bytes (192 bits) and 64.
_BYTES: Final = 32
_SHORTEST, _LONGEST = 24, 64


def new_secret() -> str:
    """A random secret."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(_BYTES)).decode()


def checked_secret(text: str) -> str:
    """A secret that somebody brings along. Raises ValidationError, which does not say it."""
    try:
        key = _key(text)
    except (binascii.Error, ValueError):
        key = b""
    if not text.startswith(_PREFIX) or not _SHORTEST <= len(key) <= _LONGEST:
        raise ValidationError(
            f"a secret is {_PREFIX} and the base64 of {_SHORTEST} to {_LONGEST} random bytes", field="secret"
        )
    return text


def signed_headers(secrets_: Sequence[str], message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers of one try; `timestamp` is seconds since 1970. Without a secret there is no signature."""
    headers = {"webhook-id": message_id, "webhook-timestamp": str(timestamp)}
    if secrets_:
        content = f"{message_id}.{timestamp}.".encode() + body
        headers["webhook-signature"] = " ".join(_sign(secret, content) for secret in secrets_)
    return headers


def _sign(secret: str, content: bytes) -> str:
    digest = hmac.new(_key(secret), content, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


def _key(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
