"""tests/plugin_sample built, installed and used as the author of a plugin would, in processes of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SAMPLE = Path(__file__).parent.parent / "plugin_sample"
# Seconds for one of the commands here; each takes a few on a slow machine.
PATIENCE = 60

USE = """
import asyncio, json, sys
from pathlib import Path
from jobdeck.bootstrap import open_client, run_worker
from jobdeck.settings import Settings

async def main(folder):
    settings = Settings(data_dir=folder, actor="ann")
    async with open_client(settings) as client:
        runs = [
            await client.runs.trigger("acme_ledger", {"path": f"{folder}/ledger.csv"}),
            await client.runs.trigger("acme_estimate", {"terms": 10}),
        ]
        end = await run_worker(settings, drain=True)
        done = [await client.runs.show(run.id) for run in runs]
        kind = next(kind for kind in await client.types.list() if kind.name == "acme_invoices")
    print(json.dumps({
        "end": end.value,
        "runs": [[run.status, run.result, run.error] for run in done],
        "package": [kind.package, kind.version, kind.title, kind.category, kind.defaults, kind.description],
        "fields": sorted(kind.schema["properties"]),
    }))

asyncio.run(main(Path(sys.argv[1])))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sample installed in it, from a wheel, without the network."""
    folder = tmp_path_factory.mktemp("sample")
    # Built from a copy: building leaves files behind.
    shutil.copytree(SAMPLE, folder / "source", ignore=shutil.ignore_patterns("__pycache__"))
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(folder / "source"))
    wheel = next(folder.glob("*.whl"))
    assert wheel.name == "acme_jobs-1.4.2-py3-none-any.whl"
    pip("install", "--no-deps", "--no-compile", "--target", str(folder / "site"), str(wheel))
    return folder


def pip(command: str, *arguments: str) -> None:
    """Run pip with no package index to look at."""
    run(
        sys.executable,
        "-m",
        "pip",
        command,
        "--quiet",
        "--no-index",
        "--disable-pip-version-check",
        *arguments,
    )


def run(*argv: str, **environment: str) -> str:
    """Run a command to its end; what it printed. Fails with all it said."""
    done = subprocess.run(
        argv,
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        cwd="/",
        env={name: value for name, value in os.environ.items() if not name.startswith("JOBDECK_")}
        | environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_its_own_tests_pass(installed: Path) -> None:
    """Written against `jobdeck.testing` alone, run by pytest where the package is installed."""
    said = run(
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"),
        str(installed / "source" / "tests"),
        PYTHONPATH=str(installed / "site"),
        PYTEST_DISABLE_PLUGIN_AUTOLOAD="1",
    )
    assert "9 passed" in said


def test_a_worker_runs_its_handlers(installed: Path, tmp_path: Path) -> None:
    """Installed is enough: types are registered with package and version, runs of a thread and a process complete."""
    (tmp_path / "ledger.csv").write_text("debit,credit\n5,5\n")
    answer: dict[str, Any] = json.loads(
        run(sys.executable, "-c", USE, str(tmp_path), PYTHONPATH=str(installed / "site"))
    )
    ledger, estimate = answer["runs"]
    assert answer["end"] == "drained"
    assert ledger == ["completed", {"rows": 1, "off_by": 0}, None]
    assert (estimate[0], round(estimate[1]["pi"], 2)) == ("completed", 3.04)
    defaults = {"max_attempts": 5, "timeout_s": 600.0, "single_flight": True}
    description = "Add up the invoices of one account."
    assert answer["package"] == ["acme-jobs", "1.4.2", "Acme invoices", "sync", defaults, description]
    assert answer["fields"] == ["account", "since", "token"]


PAGE = """
import asyncio, json, sys
from pathlib import Path
from jobdeck.bootstrap import open_client, run_worker
from jobdeck.settings import Settings

async def main(folder):
    settings = Settings(data_dir=folder, actor="ann", plugin={"acme_pager": {"folder": str(folder)}})
    notifiers = [{"type": "acme_pager", "target": crew} for crew in ("night", "../night")]
    definition = {"type": "acme_estimate", "params": {"terms": 10}, "notifiers": notifiers}
    async with open_client(settings) as client:
        job = await client.jobs.create("estimate", definition)
        await client.jobs.trigger(job.id)
        await run_worker(settings, drain=True)
        found = await client.deliveries.list()
    print(json.dumps([[each.shown_id, each.endpoint, each.state, each.last_error] for each in found]))

asyncio.run(main(Path(sys.argv[1])))
"""


def test_a_worker_tells_by_its_notifier(installed: Path, tmp_path: Path) -> None:
    """Installed is enough here too: what a job states goes through the package, and it can refuse."""
    said: list[list[str]] = json.loads(
        run(sys.executable, "-c", PAGE, str(tmp_path), PYTHONPATH=str(installed / "site"))
    )
    states = {endpoint: (state, error) for _, endpoint, state, error in said}
    assert states == {"night": ("delivered", None), "../night": ("failed", "a crew is a plain name")}
    line = json.loads((tmp_path / "night").read_text())
    (message_id,) = [shown for shown, endpoint, *_ in said if endpoint == "night"]
    assert line == {"id": message_id, "event": "run.completed", "job": "estimate"}
