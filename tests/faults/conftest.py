"""Fixtures of the fault cases. Their size is `short`, or what `JOBDECK_TEST_FAULTS` says."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from jobdeck.store.open import upgrade
from tests.faults.case import Case, Size, base_settings
from tests.faults.ledger import LEDGER_VARIABLE, Ledger
from tests.faults.workers import Workers
from tests.nursery import Nursery
from tests.postgres import PostgresServer, create_database, running_server

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


@pytest.fixture
def size() -> Size:
    """How much of a case is to be run."""
    return _size()


@pytest.fixture
def case(
    database_url: str,
    nursery: Nursery,
    tmp_path: Path,
    size: Size,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Iterator[Case]:
    """The case that the test is called after (`test_r03_…`), on a fresh database; its processes end with it."""
    with _case_on(database_url, request.node, nursery, tmp_path, size, monkeypatch) as made:
        yield made


@pytest.fixture(scope="module")
def own_server() -> Iterator[PostgresServer]:
    """A server that the cases of a module may stop and start."""
    with running_server() as server:
        if server.supervisor is None:
            pytest.skip("an outside server is not ours to stop")
        yield server


@pytest.fixture
def server_case(
    own_server: PostgresServer,
    nursery: Nursery,
    tmp_path: Path,
    size: Size,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Iterator[Case]:
    """As `case`, on a fresh database of `own_server`."""
    url = create_database(own_server)
    asyncio.run(upgrade(url))
    with _case_on(url, request.node, nursery, tmp_path, size, monkeypatch) as made:
        yield made


@contextmanager
def _case_on(
    url: str, test: Any, nursery: Nursery, tmp_path: Path, size: Size, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Case]:
    name = re.match(r"test_([a-z]\d\d)_", test.name)
    assert name, "a case is called after its row: test_r03_…"
    title = " ".join((test.function.__doc__ or "").partition("\n\n")[0].split())
    folder = tmp_path / "case"
    folder.mkdir(mode=0o700)
    ledger = Ledger(folder / "ledger")
    monkeypatch.setenv(LEDGER_VARIABLE, str(ledger.path))
    workers = Workers(folder, ledger, nursery, base_settings(url, folder))
    kind = "sqlite" if url.startswith("sqlite") else "postgresql"
    try:
        yield Case(name[1].upper(), title, kind, url, folder, size, ledger, workers, test.user_properties)
    finally:
        workers.end()
