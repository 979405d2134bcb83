"""The variables that give a process a slow disk, made with the C compiler of the machine."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

_SOURCE = Path(__file__).with_name("slow_fsync.c")


def slow_disk(folder: Path, milliseconds: float) -> Mapping[str, str] | None:
    """Environment of a process whose fsync takes so much longer; None where there is no C compiler."""
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        return None
    library = folder / "slow_fsync.so"
    command = [compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(_SOURCE), "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    return {"LD_PRELOAD": str(library), "BENCH_FSYNC_US": str(round(milliseconds * 1000))}
