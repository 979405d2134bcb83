"""A worker and commands whose database is behind a connection pooler in transaction mode."""

from __future__ import annotations

import signal

import pytest

from tests.acceptance.deck import PATIENCE, Deck
from tests.pooler import pooled


@pytest.mark.parametrize("database_kind", ["postgresql"])
def test_work_goes_on_by_polling_and_the_pooler_is_named(deck: Deck) -> None:
    """Runs are picked up, watched and cancelled over changing backends; the worker says once why it is slower."""
    with pooled(deck.url, size=4) as pooler:
        deck.url = pooler.url
        worker = deck.worker()
        deck.until(lambda: any(each["state"] == "idle" for each in deck.json("workers", "list")))
        quick, slow = deck.json("trigger", "noop"), deck.json("trigger", "sleep", "-p", "seconds=600")
        deck.until(lambda: deck.show(quick["id"])["status"] == "completed")
        deck.until(lambda: deck.show(slow["id"])["status"] == "running")
        assert deck.json("runs", "cancel", slow["id"])["effect"] == "requested"
        deck.until(lambda: deck.show(slow["id"])["status"] == "cancelled")
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(PATIENCE) == 0
        log = deck.log_of(0)
    warnings = [line for line in log.splitlines() if " WARNING " in line]
    assert len(warnings) == 1, log
    assert "behind a connection pooler in transaction mode" in warnings[0]
    assert "set the pooler to session mode, or connect to PostgreSQL directly" in warnings[0]
