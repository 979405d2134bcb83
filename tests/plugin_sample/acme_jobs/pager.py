"""Where the Acme company is told how its jobs ended."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jobdeck import Discard, Notification


async def page(message: Notification, settings: Mapping[str, Any]) -> None:
    """Write a line to the file of the target's crew, in the folder of the settings."""
    if "/" in message.target:
        raise Discard("a crew is a plain name")
    line = json.dumps({"id": message.id, "event": message.event, "job": message.run["job"]})
    await asyncio.to_thread(_append, Path(settings["folder"]) / message.target, line)


def _append(file: Path, line: str) -> None:
    with file.open("a") as out:
        out.write(f"{line}\n")
