"""Workers that die or freeze in the middle of a data sync."""

from __future__ import annotations

import signal

from tests.acceptance.deck import PATIENCE, Deck
from tests.acceptance.source import ROWS, GatedSource


def test_a_killed_worker_is_replaced_and_every_row_is_there_once(deck: Deck, source: GatedSource) -> None:
    """kill -9 in the middle of a page: after the lease another worker goes on at the checkpoint and finishes."""
    run = deck.json("trigger", "http_sync", "--params", source.params_json)
    first = deck.worker()
    assert source.reached.wait(PATIENCE)
    first.kill()
    first.wait()
    source.release.set()
    deck.worker()
    shown = deck.until(lambda: _ended(deck, run["id"]))
    assert shown["status"] == "completed"
    assert [attempt["outcome"] for attempt in shown["attempts"]] == ["crashed", "completed"]
    assert (shown["crash_count"], shown["progress"]["processed"]) == (1, ROWS)
    assert sorted(row["id"] for row in deck.rows("items")) == list(range(ROWS))
    # Pages 1-3 were stored by the first worker; only the page in hand was asked for twice.
    asked = [int(request.query["page"]) for request in source.api.asked]
    assert {page: asked.count(page) for page in (1, 2, 3, 4)} == {1: 1, 2: 1, 3: 1, 4: 2}


def test_a_frozen_worker_writes_nothing_after_it_wakes(deck: Deck, source: GatedSource) -> None:
    """SIGSTOP past the lease, another worker finishes, SIGCONT: nothing more reaches jobdeck or the target."""
    run = deck.json("trigger", "http_sync", "--params", source.params_json)
    frozen = deck.worker()
    assert source.reached.wait(PATIENCE)
    frozen.send_signal(signal.SIGSTOP)
    source.release.set()
    deck.worker()
    before = deck.until(lambda: _ended(deck, run["id"]))
    assert before["status"] == "completed"
    rows = deck.rows("items")
    frozen.send_signal(signal.SIGCONT)
    deck.until(lambda: "lease lost" in deck.log_of(0))
    frozen.send_signal(signal.SIGTERM)
    assert frozen.wait(PATIENCE) == 0
    after = deck.show(run["id"])
    assert after["attempts"] == before["attempts"]
    assert {key: after[key] for key in ("status", "progress", "result")} == {
        key: before[key] for key in ("status", "progress", "result")
    }
    assert deck.rows("items") == rows
    assert len(rows) == ROWS


def test_a_cancelled_sync_keeps_the_rows_it_has(deck: Deck, source: GatedSource) -> None:
    """Cancel in the middle: first `cancelling`, then `cancelled`, with the pages so far still in the target."""
    run = deck.json("trigger", "http_sync", "--params", source.params_json)
    deck.worker()
    assert source.reached.wait(PATIENCE)
    reply = deck.json("runs", "cancel", run["id"], "--reason", "enough")
    assert (reply["cancelled"], reply["effect"]) == (False, "requested")
    assert deck.show(run["id"])["label"] == "cancelling"
    source.release.set()
    shown = deck.until(lambda: _ended(deck, run["id"]))
    assert (shown["status"], shown["cancel_reason"]) == ("cancelled", "enough")
    assert 30 <= len(deck.rows("items")) <= 40


def test_a_stopped_worker_gives_its_run_back(deck: Deck, source: GatedSource) -> None:
    """SIGTERM: after the grace the run is pending again, no attempt burned, and the next worker completes it."""
    run = deck.json("trigger", "http_sync", "--params", source.params_json)
    worker = deck.worker()
    assert source.reached.wait(PATIENCE)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE) == 0
    shown = deck.show(run["id"])
    assert (shown["status"], shown["crash_count"]) == ("pending", 0)
    assert [attempt["outcome"] for attempt in shown["attempts"]] == ["interrupted"]
    source.release.set()
    done = deck.worker("--drain")
    assert done.wait(PATIENCE) == 0
    assert deck.show(run["id"])["status"] == "completed"
    assert sorted(row["id"] for row in deck.rows("items")) == list(range(ROWS))


def _ended(deck: Deck, run_id: str) -> dict[str, object] | None:
    shown = deck.show(run_id)
    return shown if shown["finished_at"] else None
