"""Copy to where the operator can paste: through tmux where there is one, else by the terminal's own sequence."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from jobdeck.text import clean

_TMUX_SECONDS = 2.0


async def copy(text: str, osc52: Callable[[str], None]) -> str:
    """Copy one line; returns how it was done. tmux with its defaults swallows the sequence, so it is asked directly."""
    line = clean(text)
    if os.environ.get("TMUX") and await _by_tmux(line):
        return "by tmux"
    osc52(line)
    return "if the terminal allows it"


async def _by_tmux(text: str) -> bool:
    pipe, quiet = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    command = ("tmux", "load-buffer", "-w", "-")
    try:
        process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=quiet, stderr=quiet)
    except OSError:
        return False
    try:
        await asyncio.wait_for(process.communicate(text.encode()), _TMUX_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()
    return process.returncode == 0
