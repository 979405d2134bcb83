"""What the tests of the store share."""

from __future__ import annotations

import pytest

from jobdeck.store.database import Database
from tests.store.deck import Deck, team_of


@pytest.fixture
async def deck(database: Database) -> Deck:
    """A team on a fresh database."""
    return await team_of(database, "acme")
