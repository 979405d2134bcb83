"""The peers' own virtual environment: pinned in requirements/bench.txt, so that they never meet jobdeck's packages."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_PLACE = _ROOT / ".venv-bench"
_PINS = _ROOT / "requirements" / "bench.txt"
_SHOWN = ("huey", "pgqueuer", "procrastinate")
_STAMP = _PLACE / ".setup-stamp"


def peers_python(say: Callable[[str], None]) -> Path:
    """The interpreter of that environment; made where it is missing or out of date."""
    python = _PLACE / "bin" / "python"
    wanted = hashlib.sha256(f"{_PLACE}\n{_PINS.read_text()}".encode()).hexdigest()
    if _STAMP.is_file() and _STAMP.read_text() == wanted:
        return python
    say("setting up the peers (about a minute the first time)")
    _STAMP.unlink(missing_ok=True)
    _run([sys.executable, "-m", "venv", "--clear", str(_PLACE)])
    install = ["-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-input", "--no-deps"]
    _run([str(python), *install, "--require-hashes", "--only-binary", ":all:", "-r", str(_PINS)])
    _STAMP.write_text(wanted)
    return python


def peer_versions() -> dict[str, str]:
    """What is pinned."""
    pins = dict(re.findall(r"^([\w-]+)==(\S+)", _PINS.read_text(), re.MULTILINE))
    return {name: pins[name] for name in _SHOWN}


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True)
