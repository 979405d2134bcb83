"""`jobdeck runner --processes N`: a parent that works on no run itself and keeps N workers as its children."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from functools import partial
from typing import Final

from jobdeck.cli.keeper import Keeper, dies_always

_log = logging.getLogger("jobdeck.runner")
# What a worker may take beyond its grace: letting go of handlers, giving runs back, signing off.
MARGIN: Final = 20.0
# A worker that SIGTERM killed had not begun yet: it held nothing.
_IN_ORDER: Final = (0, -signal.SIGTERM)


def supervise(count: int, *, drain: bool, grace: float) -> int:
    """Keep `count` workers until SIGTERM, SIGINT or, with `drain`, until all of them have drained; the exit code.

    What would keep a worker from starting is said once, and its exit code is the answer. A first signal stops the
    workers in order, a second one now; one that still lives 20 s after its `grace` (seconds) is killed. 0: all
    ended in order; 1: not all did. The workers also stop in order when this process dies.
    """
    refused = subprocess.run(_one_worker("--check"), stdin=subprocess.DEVNULL, check=False).returncode
    if refused:
        return max(refused, 1)
    with ExitStack() as stack:
        # Nobody else holds the writing end: when this process is gone, however, the workers read their end-of-file.
        read_end, write_end = os.pipe()
        stack.callback(os.close, read_end)
        stack.callback(os.close, write_end)
        keepers = [
            Keeper(
                partial(_spawn, read_end), tell=_log.warning, is_done=_is_drained if drain else dies_always
            )
            for _ in range(count)
        ]
        codes = asyncio.run(_until_over(keepers, grace + MARGIN))
    return 0 if all(code in _IN_ORDER for code in codes) else 1


def _is_drained(code: int) -> bool:
    return code == 0


def _one_worker(*more: str) -> list[str]:
    """The command line of this process again, for one worker: of options given twice the last one counts."""
    return [sys.executable, *sys.orig_argv[1:], "--processes", "1", *more]


def _spawn(read_end: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        _one_worker("--stop-on-eof", str(read_end)),
        stdin=subprocess.DEVNULL,
        pass_fds=[read_end],
        # Ctrl-C in the terminal is for this process alone, which passes it on: two would mean to stop now.
        start_new_session=True,
    )


async def _until_over(keepers: list[Keeper], patience: float) -> list[int]:
    loop = asyncio.get_running_loop()
    deadline: asyncio.TimerHandle | None = None

    def stop() -> None:
        nonlocal deadline
        for keeper in keepers:
            keeper.stop()
        deadline = deadline or loop.call_later(patience, kill)

    def kill() -> None:
        _log.error("not all workers have stopped %.0f s after they were asked to: they are killed", patience)
        for keeper in keepers:
            keeper.kill()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    for keeper in keepers:
        keeper.start()
    _log.info("process %d watches over %d workers", os.getpid(), len(keepers))
    codes = await asyncio.gather(*(asyncio.wrap_future(keeper.over) for keeper in keepers))
    if deadline is not None:
        deadline.cancel()
    return codes
