"""The check of a ledger file, in plain blocking Python."""

from __future__ import annotations

import csv
import logging
from pathlib import Path

from pydantic import BaseModel

from jobdeck import Context, Discard, handler

log = logging.getLogger(__name__)


class LedgerParams(BaseModel):
    """Which file."""

    path: Path


@handler("acme_ledger", category="finance", max_attempts=2)
def acme_ledger(ctx: Context, params: LedgerParams) -> dict[str, int]:
    """Check that debits and credits of a ledger agree."""
    if not params.path.is_file():
        raise Discard(f"there is no ledger {params.path.name}")
    balance = 0
    with params.path.open(newline="") as file:
        for number, row in enumerate(csv.DictReader(file), 1):
            ctx.raise_if_cancelled()
            balance += int(row["debit"] or 0) - int(row["credit"] or 0)
            ctx.progress(number)
    if balance:
        log.warning("the ledger is off by %d", balance)
    return {"rows": number, "off_by": balance}
