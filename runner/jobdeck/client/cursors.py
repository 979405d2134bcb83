"""Cursors of lists: opaque, and bound to the team and the filter they came from."""

from __future__ import annotations

import base64
import hashlib
import struct
from uuid import UUID

from jobdeck.clock import to_us
from jobdeck.errors import ValidationError
from jobdeck.model import Run, RunFilter, TeamScope

Key = tuple[int, UUID]
_LAYOUT = struct.Struct(">Q16s6s")


def encode(run: Run, scope: TeamScope, chosen: RunFilter) -> str:
    """The cursor that goes on after this run."""
    packed = _LAYOUT.pack(to_us(run.created_at), run.id.bytes, _seal(scope, chosen))
    return base64.urlsafe_b64encode(packed).rstrip(b"=").decode()


def decode(cursor: str, scope: TeamScope, chosen: RunFilter) -> Key:
    """Raises ValidationError for a cursor that is damaged or belongs to another list."""
    try:
        packed = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        created, run_id, seal = _LAYOUT.unpack(packed)
    except (ValueError, struct.error):
        raise ValidationError(
            "the cursor is damaged; take it whole from the page before", field="cursor"
        ) from None
    if seal != _seal(scope, chosen):
        raise ValidationError(
            "the cursor belongs to another team or filter; start again without it", field="cursor"
        )
    return created, UUID(bytes=run_id)


def _seal(scope: TeamScope, chosen: RunFilter) -> bytes:
    parts = [
        scope.team_id.hex,
        ",".join(sorted(chosen.statuses)),
        *(str(getattr(chosen, name)) for name in ("job_type", "queue", "category", "project", "text")),
    ]
    return hashlib.sha256("\x1f".join(parts).encode("utf-8", "surrogatepass")).digest()[:6]
