"""A handler that says far more than anybody can store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from statistics import median

from sqlalchemy import func, select

from jobdeck import limits
from jobdeck.client import Client
from jobdeck.store.schema import run_logs
from tests.faults.case import LONG_LEASE, Case
from tests.faults.invariants import Breach
from tests.faults.leaks import holdings, nothing_leaked, wal_bounded
from tests.faults.ledger import Kind, of_kind

# Lines, bytes of the one long line, calls of progress.
SHORT = (100_000, 10_000_000, 5_000)
WHOLE = (1_000_000, 10_000_000, 100_000)
NEIGHBOURS = 10
ELSEWHERE = "elsewhere"
# Seconds beside the twofold latency: turns on one interpreter, and a machine that is shared with other tests.
SLACK = {"same worker": 1.0, "another worker": 0.1}
_MIB = 1024 * 1024


async def test_r33_a_flood_of_words(case: Case) -> None:
    """The log is cut with a mark, memory and database are bounded, and runs of another worker are not held up.

    Those of the same worker share its interpreter with the flood, so they only have to get their turns.
    """
    lines, line_bytes, progress = case.size.of(SHORT, WHOLE)
    async with case.client() as client:
        worker = case.workers.start("--queue", "default", settings=LONG_LEASE)
        case.workers.start("--queue", ELSEWHERE, settings=LONG_LEASE)
        calm = await _latencies(case, client)
        before = holdings(worker.pid)
        (loud,) = await case.enqueue(client, 1, "floods", lines=lines)
        (shouting,) = await case.enqueue(client, 1, "floods", line_bytes=line_bytes)
        (busy,) = await case.enqueue(client, 1, "floods", progress=progress)
        await case.until(lambda: any(row["run_id"] == busy for row in case.history().leases))
        flooded = await _latencies(case, client)
        await case.settled()
        after = holdings(worker.pid)
        cut = (await client.runs.log_tail(loud, 1))[0].message
    more = [*nothing_leaked(before, after, rss_bytes=128 * _MIB), *_held_up(calm, flooded)]
    if case.kind == "sqlite":
        more += wal_bounded(case.file)
    stored = _log_bytes(case)
    if max(stored.values()) > 1.2 * limits.LOG_RUN_BYTES or stored[shouting.hex] > 2 * limits.LOG_LINE_BYTES:
        more.append(Breach("I11", "-", f"a log has {max(stored.values()):,} bytes"))
    note = f"{lines:,} lines; RSS +{max(0, after.rss_bytes - before.rss_bytes) // _MIB} MiB; latency calm and flooded: "
    note += ", ".join(
        f"{place} {calm[place] * 1000:.0f} and {flooded[place] * 1000:.0f} ms" for place in calm
    )
    history = case.judge(more=more, faults=3, note=note)
    assert {row["status"] for row in history.runs} == {"completed"}
    assert stored[loud.hex] > 0.5 * limits.LOG_RUN_BYTES
    assert cut.startswith("log truncated")


def _held_up(calm: Mapping[str, float], flooded: Mapping[str, float]) -> Iterator[Breach]:
    for place, slack in SLACK.items():
        if flooded[place] > 2 * calm[place] + slack:
            yield Breach(
                "I6", "-", f"{place}: runs took {flooded[place]:.2f} s, {calm[place]:.2f} s without the flood"
            )


async def _latencies(case: Case, client: Client) -> dict[str, float]:
    """Seconds from the asking for a run to its effect, by worker; the medians of some, one after the other."""
    found = {}
    for place, queue in (("same worker", "default"), ("another worker", ELSEWHERE)):
        waits = []
        for _ in range(NEIGHBOURS):
            (run_id,) = await case.enqueue(client, 1, options={"queue": queue})
            await case.until(partial(_has_effect, case, run_id.hex))
            entries = case.ledger.read()
            (done,) = (entry for entry in of_kind(entries, Kind.EFFECT) if entry.run == run_id.hex)
            (asked,) = (entry for entry in of_kind(entries, Kind.UNKNOWN) if entry.key == done.key)
            waits.append((done.end or 0.0) - asked.at)
        found[place] = median(waits)
    return found


def _has_effect(case: Case, run: str) -> bool:
    return any(entry.run == run for entry in case.effects())


def _log_bytes(case: Case) -> dict[str, int]:
    """How much each run's log has, as stored."""
    size = func.sum(func.length(run_logs.c.message) + func.coalesce(func.length(run_logs.c.fields), 0))
    with case.connection() as conn:
        rows = conn.execute(select(run_logs.c.run_id, size).group_by(run_logs.c.run_id))
        return {row[0].hex: int(row[1]) for row in rows}
