"""What importing a part of jobdeck may load, and what its public face shows."""

import subprocess
import sys

import pytest

import jobdeck

HEAVY = ("textual", "alembic", "asyncpg")


def loaded_by(statement: str) -> set[str]:
    """The top-level packages in memory after `statement` in a fresh interpreter."""
    script = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["jobdeck", "jobdeck.cli", "jobdeck.bootstrap", "jobdeck.engine.worker"])
def test_the_runner_never_loads_the_heavy_ones(module: str) -> None:
    """Neither a command nor a worker waits for Textual, Alembic or a driver it does not use."""
    assert loaded_by(f"import {module}").isdisjoint(HEAVY)


def test_the_shipped_handlers_never_load_the_console() -> None:
    """Every handler of the distribution is loaded as a worker loads it, without Textual."""
    statement = "from jobdeck.plugins import load_plugins\nfound = load_plugins()\nassert not found.broken"
    assert "textual" not in loaded_by(statement)


def test_importing_jobdeck_alone_is_cheap() -> None:
    """`import jobdeck` by itself loads none of its dependencies: names come on first use."""
    assert loaded_by("import jobdeck").isdisjoint({"pydantic", "sqlalchemy", "httpcore", "typer", *HEAVY})


def test_all_public_names_exist_and_are_listed() -> None:
    """`__all__` is what `dir()` shows, every name can be had, and an unknown one says so."""
    assert sorted(jobdeck.__all__) == sorted(set(jobdeck.__all__))
    assert dir(jobdeck) == sorted(jobdeck.__all__)
    for name in jobdeck.__all__:
        assert getattr(jobdeck, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        jobdeck.no_such_name  # noqa: B018  the access is the test


def test_public_classes_have_a_docstring() -> None:
    """Whatever an author can import says what it means."""
    undocumented = [
        name
        for name in jobdeck.__all__
        if callable(value := getattr(jobdeck, name)) and not (value.__doc__ or "").strip()
    ]
    assert undocumented == []
