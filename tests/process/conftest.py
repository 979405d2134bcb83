"""A mark for the environment of each test's processes; no test may leave one of them behind."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.process.recording import fresh_mark


@pytest.fixture
def mark() -> Iterator[str]:
    """Text that only the processes of this test have in their environment."""
    with fresh_mark() as text:
        yield text


@pytest.fixture
def env(mark: str) -> dict[str, str]:
    """An environment in which programs work, with the mark."""
    return {"PATH": os.environ["PATH"], "MARK": mark}
