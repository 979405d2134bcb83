"""A program for the pseudo-terminal test: the console on runs whose every text is hostile.

`python -m tests.tui.hostile_console FOLDER`; the log goes into the folder.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

from jobdeck.model import Attempt, Progress
from jobdeck_tui.app import Console
from jobdeck_tui.driver import forgive_input
from jobdeck_tui.launch import run_to_end
from jobdeck_tui.safety import logging_to
from tests.tui.fake_client import NOW, FakeClient, make_run, make_type
from tests.tui.hostile import EVERYTHING, PAYLOADS

SCHEMA: dict[str, Any] = {
    "required": ["url"],
    "properties": {
        "url": {"type": "string", "description": EVERYTHING},
        "table": {"type": "string", "default": EVERYTHING},
        "mode": {"enum": [EVERYTHING, *PAYLOADS.values()]},
        "key": {"type": "array", "default": [EVERYTHING]},
        EVERYTHING: {"type": "integer"},
    },
}


def hostile(number: int, text: str) -> Any:
    """A running run, cancelling, with this text wherever a text can be."""
    return make_run(
        number,
        status="running",
        name=text,
        queue=text,
        project=text,
        triggered_by=text,
        progress=Progress(1, 2, message=text),
        error=text,
        traceback=text,
        params={text: text},
        result={text: text},
        cancel_reason=text,
        attempts=(Attempt(1, 1, None, text, NOW, None, text, text, text),),
    )


async def main(folder: Path) -> int:
    client = FakeClient()
    client.types.all = [
        make_type(schema=SCHEMA, title=EVERYTHING, description=EVERYTHING, category=EVERYTHING)
    ]
    texts = [*PAYLOADS.values(), EVERYTHING]
    for number, text in enumerate(texts, 1):
        run = hostile(number, text)
        client.runs.put(run)
        for line in texts:
            client.runs.say(run.id, line, level=text)
    forgive_input()
    with logging_to(folder / "console.log"):
        return await run_to_end(Console(client), folder / "console.log")


if __name__ == "__main__":
    sys.exit(asyncio.run(main(Path(sys.argv[1]))))
