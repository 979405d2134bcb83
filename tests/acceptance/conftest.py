"""What the acceptance tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.deck import Deck, deck_at
from tests.acceptance.source import GatedSource, gated_source
from tests.nursery import Nursery


@pytest.fixture
def deck(database_url: str, tmp_path: Path, nursery: Nursery) -> Iterator[Deck]:
    """jobdeck on a fresh, migrated database."""
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    with deck_at(database_url, folder, nursery) as made:
        yield made


@pytest.fixture
def source() -> Iterator[GatedSource]:
    """A paginated API that can be held at a page."""
    with gated_source() as made:
        yield made
