"""The client for programs that are not async."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import create_engine, make_url
from sqlalchemy.pool import NullPool

from jobdeck.errors import DatabaseUnavailable, ValidationError
from jobdeck.ids import show_id
from jobdeck.settings import Settings
from jobdeck.sync import SyncClient
from tests.acceptance.deck import Deck


def settings_of(deck: Deck) -> Settings:
    return Settings(database_url=deck.url, data_dir=deck.folder)


def test_everything_the_async_client_can(deck: Deck) -> None:
    """Four threads trigger runs by one client and read them back; a typed error is raised where it is made."""
    with SyncClient(settings_of(deck)) as jobdeck:

        def trigger(number: int) -> object:
            run = jobdeck(lambda client: client.runs.trigger("noop", {"echo": number}))
            return jobdeck(lambda client: client.runs.show(run.id)).params["echo"]

        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(trigger, range(20))) == list(range(20))
        with pytest.raises(ValidationError):
            jobdeck(lambda client: client.runs.trigger("noop", {"colour": "red"}))
    assert len(deck.json("runs", "list")["runs"]) == 20
    with pytest.raises(RuntimeError, match="not open"):
        jobdeck(lambda client: client.runs.counts())


def test_a_run_in_ones_own_transaction(deck: Deck) -> None:
    """It is there with the commit, and a worker that has nothing to poll for soon runs it; a rollback leaves none."""
    url = make_url(deck.url)
    if url.get_backend_name() == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    engine = create_engine(url, poolclass=NullPool)
    deck.settings["JOBDECK_RUNNER__POLL"] = "30s"
    with SyncClient(settings_of(deck)) as jobdeck:
        with engine.connect() as conn:
            jobdeck.enqueue_in(conn, "noop", {"echo": "undone"})
            conn.rollback()
            kept = jobdeck.enqueue_in(conn, "noop", {"echo": "kept"}, name="order 7")
            conn.commit()
        deck.worker()
        deck.until(lambda: deck.show(show_id("run", kept))["status"] == "completed")
        with engine.begin() as conn:
            soon = jobdeck.enqueue_in(conn, "noop")
        deck.until(lambda: deck.show(show_id("run", soon))["status"] == "completed")
    engine.dispose()
    assert [run["name"] for run in deck.json("runs", "list")["runs"]] == ["Do nothing", "order 7"]
    with pytest.raises(RuntimeError, match="not open"):
        jobdeck.enqueue_in(conn, "noop")


@pytest.mark.parametrize("database_kind", ["sqlite"])
def test_a_database_that_is_not_there(deck: Deck) -> None:
    """Opening raises what it would for an async program, and leaves no thread behind."""
    client = SyncClient(Settings(database_url="postgresql://nobody@127.0.0.1:9/none", data_dir=deck.folder))
    with pytest.raises(DatabaseUnavailable):
        client.open()
    client.close()
    with SyncClient(settings_of(deck)) as again:
        assert not any(again(lambda client: client.runs.counts()).values())
