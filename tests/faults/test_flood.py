"""A handler that says far more than anybody can store."""

from __future__ import annotations

from functools import partial
from statistics import median

from sqlalchemy import func, select

from jobdeck import limits
from jobdeck.client import Client
from jobdeck.store.schema import run_logs
from tests.faults.case import Case
from tests.faults.invariants import Breach
from tests.faults.leaks import holdings, nothing_leaked, wal_bounded
from tests.faults.ledger import Kind, of_kind

# Lines, bytes of the one long line, calls of progress.
SHORT = (100_000, 10_000_000, 5_000)
WHOLE = (1_000_000, 10_000_000, 100_000)
NEIGHBOURS = 10
# Seconds beside the twofold latency: a machine that is shared with other tests.
SLACK = 0.5
_MIB = 1024 * 1024


async def test_r33_a_flood_of_words(case: Case) -> None:
    """The log is cut with a mark, memory and database are bounded, and other runs are not held up."""
    lines, line_bytes, progress = case.size.of(SHORT, WHOLE)
    async with case.client() as client:
        worker = case.workers.start(settings={"runner": {"concurrency": 10}})
        await case.enqueue(client, 1)
        await case.settled()
        calm = await _latency(case, client)
        before = holdings(worker.pid)
        (loud,) = await case.enqueue(client, 1, "floods", lines=lines)
        (shouting,) = await case.enqueue(client, 1, "floods", line_bytes=line_bytes)
        (busy,) = await case.enqueue(client, 1, "floods", progress=progress)
        await case.until(lambda: any(row["run_id"] == busy for row in case.history().leases))
        flooded = await _latency(case, client)
        await case.settled()
        after = holdings(worker.pid)
        cut = (await client.runs.log_tail(loud, 1))[0].message
    more = [*nothing_leaked(before, after, rss_bytes=128 * _MIB)]
    if case.kind == "sqlite":
        more += wal_bounded(case.file)
    stored = _log_bytes(case)
    if max(stored.values()) > 1.2 * limits.LOG_RUN_BYTES or stored[shouting.hex] > 2 * limits.LOG_LINE_BYTES:
        more.append(Breach("I11", "-", f"a log has {max(stored.values()):,} bytes"))
    if flooded > 2 * calm + SLACK:
        more.append(Breach("I6", "-", f"runs took {flooded:.2f} s beside the flood, {calm:.2f} s without"))
    history = case.judge(
        more=more,
        faults=3,
        note=f"{lines:,} lines; latency {calm * 1000:.0f} ms calm, {flooded * 1000:.0f} ms flooded; "
        f"RSS +{max(0, after.rss_bytes - before.rss_bytes) // _MIB} MiB",
    )
    assert {row["status"] for row in history.runs} == {"completed"}
    assert stored[loud.hex] > 0.5 * limits.LOG_RUN_BYTES
    assert cut.startswith("log truncated")


async def _latency(case: Case, client: Client) -> float:
    """Seconds from the asking for a run to its effect; the median of some, one after the other."""
    done = {entry.key for entry in case.effects()}
    for _ in range(NEIGHBOURS):
        (run_id,) = await case.enqueue(client, 1)
        await case.until(partial(_has_effect, case, run_id.hex))
    entries = case.ledger.read()
    asked = {entry.key: entry.at for entry in of_kind(entries, Kind.UNKNOWN)}
    quick = [entry for entry in of_kind(entries, Kind.EFFECT) if entry.key not in done and entry.key in asked]
    return median((entry.end or 0.0) - asked[entry.key] for entry in quick)


def _has_effect(case: Case, run: str) -> bool:
    return any(entry.run == run for entry in case.effects())


def _log_bytes(case: Case) -> dict[str, int]:
    """How much each run's log has, as stored."""
    size = func.sum(func.length(run_logs.c.message) + func.coalesce(func.length(run_logs.c.fields), 0))
    with case.connection() as conn:
        rows = conn.execute(select(run_logs.c.run_id, size).group_by(run_logs.c.run_id))
        return {row[0].hex: int(row[1]) for row in rows}
