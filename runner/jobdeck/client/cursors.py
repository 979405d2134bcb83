"""Cursors of lists: opaque, and bound to the team and the filter they came from."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import struct
from uuid import UUID

from jobdeck.clock import from_us, to_us
from jobdeck.errors import ValidationError
from jobdeck.model import RunFilter, RunKey, TeamScope

_KEY = struct.Struct(">Q16s")
_SEAL_BYTES = 6
# 30 bytes in base64, which needs no padding.
_FORM = re.compile(r"[A-Za-z0-9_-]{40}")


def encode(place: RunKey, scope: TeamScope, chosen: RunFilter, of: str = "") -> str:
    """The cursor that goes on after this place; `of` tells lists of different things apart."""
    key = _KEY.pack(to_us(place.created_at), place.id.bytes)
    return base64.urlsafe_b64encode(key + _seal(key, scope, chosen, of)).decode()


def decode(cursor: str, scope: TeamScope, chosen: RunFilter, of: str = "") -> RunKey:
    """Raises ValidationError for a cursor that is damaged or belongs to another list."""
    packed = base64.urlsafe_b64decode(cursor) if _FORM.fullmatch(cursor) else b""
    key = packed[: _KEY.size]
    if packed[_KEY.size :] != _seal(key, scope, chosen, of):
        raise ValidationError(
            "the cursor is damaged or belongs to another team or filter; start again without it",
            field="cursor",
        )
    created, run_id = _KEY.unpack(key)
    return RunKey(from_us(created), UUID(bytes=run_id))


def _seal(key: bytes, scope: TeamScope, chosen: RunFilter, of: str) -> bytes:
    # Without since and until: a filter like `--since 1h` moves from page to page and is the same list.
    names = ("job_type", "queue", "category", "project", "trigger_type", "text")
    parts = [scope.team_id.hex, sorted(chosen.statuses), *(getattr(chosen, name) for name in names)]
    parts.append(chosen.job_id.hex if chosen.job_id else None)
    if of:
        parts.append(of)
    return hashlib.sha256(key + json.dumps(parts).encode()).digest()[:_SEAL_BYTES]
