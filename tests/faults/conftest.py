"""Fixtures of the fault cases. Their size is `short`, or what `JOBDECK_TEST_FAULTS` says."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.case import Case, Size, base_settings
from tests.faults.ledger import LEDGER_VARIABLE, Ledger
from tests.faults.nursery import Nursery
from tests.faults.report import gathered, table
from tests.faults.workers import Workers

SIZE_VARIABLE = "JOBDECK_TEST_FAULTS"
# Seconds; a case in its whole form has minutes.
_WHOLE_TIMEOUT = 900
_HERE = Path(__file__).parent


def _size() -> Size:
    return Size(os.environ.get(SIZE_VARIABLE, Size.SHORT))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give whole cases their time."""
    for item in items:
        if _size() is Size.WHOLE and item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.timeout(_WHOLE_TIMEOUT))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the table of this session."""
    if gathered:
        terminalreporter.section("fault cases")
        terminalreporter.write_line(table(gathered))


@pytest.fixture
def size() -> Size:
    """How much of a case is to be run."""
    return _size()


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """What starts the processes of all cases."""
    nursery = Nursery()
    yield nursery
    nursery.close()


@pytest.fixture
def case(
    database_url: str,
    database_kind: str,
    nursery: Nursery,
    tmp_path: Path,
    size: Size,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Iterator[Case]:
    """The case that the test is called after (`test_r03_…`), on a fresh database; its processes end with it."""
    name = re.match(r"test_([a-z]\d\d)_", request.node.name)
    assert name, "a case is called after its row: test_r03_…"
    title = " ".join((request.node.function.__doc__ or "").partition("\n\n")[0].split())
    folder = tmp_path / "case"
    folder.mkdir(mode=0o700)
    ledger = Ledger(folder / "ledger")
    monkeypatch.setenv(LEDGER_VARIABLE, str(ledger.path))
    workers = Workers(folder, ledger, nursery, base_settings(database_url, folder))
    try:
        yield Case(name[1].upper(), title, database_kind, database_url, folder, size, ledger, workers)
    finally:
        workers.end()
