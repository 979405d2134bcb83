"""A limit is measured in a process of its own, like everything else: `python -m bench.limits.NAME WHAT …`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from bench.process import Program, answer, environment


def limit(module: str, *arguments: object, more: Mapping[str, str] | None = None) -> Any:
    """What `bench.limits.<module>` answers; `more` are variables of its environment."""
    command = [sys.executable, "-m", f"bench.limits.{module}", *map(str, arguments)]
    return answer(Program(command, environment(**(more or {}))))
