"""Commands of a case, inside the tests' own process: a new one would spend its time on imports."""

from __future__ import annotations

import asyncio
import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from typing import Any
from unittest import mock

from jobdeck.cli.main import run
from tests.acceptance.deck import command_line
from tests.faults.case import Case


async def said(case: Case, *arguments: str, stdin: str = "", **settings: Any) -> tuple[int, str, str]:
    """The exit code of `jobdeck ARGUMENTS`, and what it says on its two streams."""
    config = str(case.workers.config(settings))
    return await asyncio.to_thread(_said, [*arguments, "--config", config], stdin)


def _said(arguments: list[str], stdin: str) -> tuple[int, str, str]:
    fed = io.TextIOWrapper(io.BytesIO(stdin.encode()))
    out, err = io.StringIO(), io.StringIO()
    with mock.patch.object(sys, "stdin", fed), redirect_stdout(out), redirect_stderr(err):
        code = run(command_line(), arguments)
    return code, out.getvalue(), err.getvalue()
