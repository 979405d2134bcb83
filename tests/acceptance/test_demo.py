"""The demo without a terminal: one real data sync to its end."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

from jobdeck.demo.api import PRODUCTS


def test_the_demo_syncs_its_source_and_says_where_things_are(database_url: str, tmp_path: Path) -> None:
    """Exit code 0, plain progress lines, a completed run with its counts, every product in the table it names."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JOBDECK_")}
    environment |= {"JOBDECK_DATA_DIR": str(tmp_path / "data"), "JOBDECK_DATABASE_URL": database_url}
    done = subprocess.run(
        [sys.executable, "-m", "jobdeck", "demo"],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["database", "source", "target", "run"]
    assert f"{PRODUCTS} synced, 0 skipped, 0 failed of {PRODUCTS}" in lines[-1]
    assert sum(line.startswith("running") for line in lines) > 3
    target = lines[2].split()[1]
    with sqlite3.connect(f"file:{target}?mode=ro", uri=True) as connection:
        found = connection.execute("SELECT count(*), count(DISTINCT sku) FROM products").fetchone()
    connection.close()
    assert found == (PRODUCTS, PRODUCTS)
