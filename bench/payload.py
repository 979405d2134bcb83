"""The params of every run that is measured: about 100 bytes of JSON."""

from __future__ import annotations

import time
from typing import Any


def payload(**more: Any) -> dict[str, Any]:
    """Params with the time of now, from which the pick-up is counted."""
    return {
        "user_id": 4217,
        "email": "user4217@example.com",
        "template": "welcome",
        "language": "en",
        "sent_ns": time.monotonic_ns(),
    } | more
