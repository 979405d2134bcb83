"""What the tests of the engine share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from jobdeck.store.database import Database
from tests.engine.bench import Bench, bench_on


@pytest.fixture
async def bench(database: Database) -> AsyncIterator[Bench]:
    """A team on a fresh database, without a worker."""
    made = await bench_on(database)
    yield made
    made.client.close()
