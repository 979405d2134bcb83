"""What the tests of the limits share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.deck import Deck, deck_at
from tests.nursery import Nursery


@pytest.fixture
def deck(database_url: str, tmp_path: Path, nursery: Nursery) -> Iterator[Deck]:
    """jobdeck on a fresh, migrated database."""
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    with deck_at(database_url, folder, nursery) as made:
        yield made
