"""Each handler, run as a worker runs it."""
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from acme_jobs.estimate import acme_estimate
from acme_jobs.invoices import acme_invoices
from acme_jobs.ledger import acme_ledger
from billing import Billing, billing_api

from jobdeck.testing import HandlerResult, LoggedLine, run_handler, run_handler_sync

PARAMS = {"account": "a1", "token": "secret://ACME", "since": "2026-01-01"}


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Billing]:
    """The billing API, and the token for it."""
    monkeypatch.setenv("JOBDECK_SECRET_ACME", "open-sesame")
    with billing_api() as running:
        yield running


def invoices(api: Billing, **options: object) -> HandlerResult:
    return asyncio.run(
        run_handler(acme_invoices, PARAMS, settings={"api_url": api.url}, allow=["127.0.0.1/32"], **options)  # type: ignore[arg-type]
    )


def test_invoices_are_added_up(api: Billing) -> None:
    """All pages are read with the token, with progress and a checkpoint after each."""
    done = invoices(api)
    assert (done.outcome, done.result) == ("completed", {"invoices": 3, "cents": 351})
    assert api.requests == [
        ("/accounts/a1/invoices?page=1&since=2026-01-01", "Bearer open-sesame"),
        ("/accounts/a1/invoices?page=2&since=2026-01-01", "Bearer open-sesame"),
    ]
    assert (done.progress.processed, done.progress.total, done.progress.message) == (3, 3, "read 3 invoices")
    assert done.logs[0] == LoggedLine("info", "read a page", {"page": 1, "invoices": 2})
    assert done.checkpoints[0] == {"page": 2, "count": 2, "cents": 350}


def test_a_second_attempt_goes_on(api: Billing) -> None:
    """What the first attempt has read is not read again."""
    done = invoices(api, attempt=2, resume={"page": 2, "count": 2, "cents": 350})
    assert (done.result, len(api.requests)) == ({"invoices": 3, "cents": 351}, 1)


def test_a_busy_api_is_asked_again_later(api: Billing) -> None:
    """429 becomes a retry after what the API asks for."""
    api.busy = True
    done = invoices(api)
    assert (done.outcome, done.error, done.retry_in) == ("error", "the billing API is busy", 7.0)


def test_it_stops_when_asked(api: Billing) -> None:
    """Cancelled before it begins it asks nothing; a lost lease ends it at its first checkpoint."""
    assert invoices(api, cancel_after=0).outcome == "cancelled"
    assert api.requests == []
    assert "lease" in (invoices(api, lease_lost=True).error or "")
    assert len(api.requests) == 1


def test_private_addresses_are_closed(api: Billing) -> None:
    """Without the server's leave ctx.http goes nowhere near the own network."""
    done = run_handler_sync(acme_invoices, PARAMS, settings={"api_url": api.url})
    assert (done.outcome, api.requests) == ("error", [])


def test_a_ledger_is_checked(tmp_path: Path) -> None:
    """It reads every row and says what is wrong by std logging."""
    ledger = tmp_path / "march.csv"
    ledger.write_text("debit,credit\n100,\n,60\n")
    done = run_handler_sync(acme_ledger, {"path": str(ledger)})
    assert (done.outcome, done.result) == ("completed", {"rows": 2, "off_by": 40})
    assert done.logs == (LoggedLine("warn", "the ledger is off by 40", {"logger": "acme_jobs.ledger"}),)


def test_a_missing_ledger_is_no_reason_to_try_again(tmp_path: Path) -> None:
    """Discard ends the run."""
    done = run_handler_sync(acme_ledger, {"path": str(tmp_path / "none.csv")})
    assert (done.outcome, done.final, done.error) == ("error", True, "there is no ledger none.csv")


def test_an_estimate_has_its_own_process() -> None:
    """The handler with isolation runs in a child, also under the test kit."""
    done = run_handler_sync(acme_estimate, {"terms": 2_000})
    assert done.result["pi"] == pytest.approx(3.1411, abs=0.001)
    assert done.result["process"] != os.getpid()
    assert done.progress.total == 2_000


def test_wrong_params_are_refused() -> None:
    """The params model decides before the handler is called."""
    done = run_handler_sync(acme_invoices, {"account": "", "token": "clear"})
    assert (done.outcome, done.final) == ("error", True)
    assert (done.error or "").startswith("params of acme_invoices: account: String should have at least 1")
