"""What takes a database away from its workers: a proxy before PostgreSQL that cuts, a foreign lock on a SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from tests.faults.case import Case
from tests.faults.proxy import Proxy, proxy_before
from tests.faults.workers import merged


@contextmanager
def behind_proxy(case: Case) -> Iterator[Proxy]:
    """Everything of the case but its own look at the tables goes through a proxy while the block runs."""
    direct = case.workers.settings
    with proxy_before(case.url) as (proxy, url):
        case.workers.settings = merged(direct, {"database_url": url})
        yield proxy
        proxy.mend()
        case.workers.settings = direct


@contextmanager
def cut_off(case: Case, proxy: Proxy) -> Iterator[None]:
    """While the block runs every connection is reset, and every new one."""
    case.ledger.fault("cut")
    proxy.cut()
    yield
    proxy.mend()


@contextmanager
def locked(case: Case) -> Iterator[None]:
    """While the block runs nobody can write to the SQLite file."""
    case.ledger.fault("lock the file")
    holder = sqlite3.connect(case.file, isolation_level=None, timeout=10)
    holder.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        holder.close()
