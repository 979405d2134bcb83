"""`python -m tests.handlers.dying_export URL FOLDER CALL SAVED`: an export whose process is killed at a system call.

What it saves as its checkpoint goes to the file SAVED, as it would go to the database.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from tests.handlers.exporting import Exports

QUERY = "SELECT 1 AS n"
FILE = "report"


def main(url: str, folder: str, call: str, saved: str) -> None:
    exports = Exports(url, Path(folder))
    ctx = exports.attempt()

    def save(state: Any) -> None:
        Path(saved).write_text(json.dumps(state))

    async def checkpoint(state: Any) -> None:
        save(state)

    def die(*_: Any, **__: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    ctx.checkpoint = checkpoint  # type: ignore[method-assign]
    setattr(os, call, die)
    asyncio.run(exports.run(QUERY, ctx, file=FILE, overwrite=call == "replace"))


if __name__ == "__main__":
    main(*sys.argv[1:])
