"""An outside program that works on a pull queue by the command line alone; run by a test as a program of its own.

`python -m tests.acceptance.program QUEUE` claims until nothing is left, ends every run, and prints their ids.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from typing import Any

from jobdeck.cli.main import run
from tests.acceptance.deck import command_line

_MOST = 7


def jobdeck(*arguments: str) -> Any:
    """What the command prints as JSON; inside this process, for a new one would spend its time on imports."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = run(command_line(), [*arguments, "--json"])
    assert code == 0, (arguments, code)
    return json.loads(out.getvalue())


def main(queue: str) -> None:
    """See the module."""
    # Begins when whoever started it says so, with everything imported.
    print("ready", flush=True)
    sys.stdin.readline()
    done: list[str] = []
    while works := jobdeck("claim", queue, "--count", str(_MOST), "--worker", f"program:{os.getpid()}"):
        for work in works:
            ended = jobdeck("ack", work["id"], "completed", "--token", work["run_token"], "--result", "7")
            assert ended["status"] == "completed", ended
            done.append(work["id"])
    print(json.dumps(done), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
