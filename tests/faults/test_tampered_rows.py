"""Rows that somebody with the database's password has written: nothing in them is carried out, nobody else suffers."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from uuid import UUID

from sqlalchemy import delete

from jobdeck.client import Client
from jobdeck.errors import JobdeckError
from jobdeck.ids import show_id
from jobdeck.model import RunFilter
from jobdeck.states import TERMINAL, Status
from jobdeck.store.schema import attempts, checkpoints, leases, run_events, run_logs, runs
from tests.faults.case import LONG_LEASE, Case
from tests.faults.cli import said
from tests.faults.history import Row
from tests.faults.invariants import Breach
from tests.faults.tampered import CANARY, Tampered, rows_of, tamper, without_constraints

# Together with the spoilt ones, on one page of a list.
SHORT, WHOLE = 20, 400


async def test_s13_tampered_runs(case: Case) -> None:
    """Pickles, paths, unknown words, impossible numbers, wrong types in runs: inert, told, and out of the way."""
    rows = rows_of(case.kind)
    with without_constraints(case):
        async with case.client() as client:
            ids = {
                name: await client.runs.enqueue(row.job_type, {"key": f"S13 {name}"})
                for name, row in rows.items()
            }
            with case.connection() as conn:
                for name, row in rows.items():
                    tamper(conn, case.kind, ids[name], row.change)
            worker = case.workers.start(settings=LONG_LEASE)
            neighbours = await case.enqueue(client, case.size.of(SHORT, WHOLE))
            stored = await case.until(lambda: _settled(case, rows, ids, neighbours))
            counted = await client.runs.counts()
            more = [*_wrong(stored, rows, ids), *await _unreadable(client, ids)]
            more += [breach async for breach in _untold(case, ids)]
        more += [Breach("S13", "-", f"{path} was made") for path in case.folder.rglob(CANARY)]
        more += [] if worker.alive else [Breach("S13", "-", "the worker has ended")]
        _forget(case, list(ids.values()))
    case.judge(more=more, faults=len(rows), note=f"{len(rows)} rows tampered with")
    really = Counter(row["status"] for row in stored.values())
    assert {name: counted.get(name, 0) for name in TERMINAL} == {name: really[name] for name in TERMINAL}


def _settled(
    case: Case, rows: dict[str, Tampered], ids: dict[str, UUID], neighbours: list[UUID]
) -> dict[UUID, Row] | None:
    """The runs, once all that can have ended."""
    found = {row["id"]: row for row in case.history().runs}
    ending = [ids[name] for name, row in rows.items() if row.ends[0][0] in TERMINAL]
    return found if all(found[key]["status"] in TERMINAL for key in (*ending, *neighbours)) else None


def _wrong(stored: dict[UUID, Row], rows: dict[str, Tampered], ids: dict[str, UUID]) -> Iterator[Breach]:
    for name, row in rows.items():
        found = stored[ids[name]]
        ends = {status: kind or found["failure_kind"] for status, kind in row.ends}
        if ends.get(found["status"], ...) != found["failure_kind"]:
            how = f"{found['status']} ({found['failure_kind']})"
            yield Breach("S13", name, f"ended as {how}: {found['error']}")
        elif found["failure_kind"] and found["status"] != Status.COMPLETED and not found["error"]:
            yield Breach("S13", name, "ended without a word")


async def _unreadable(client: Client, ids: dict[str, UUID]) -> list[Breach]:
    """What the client cannot show, list or refuse with an error of its own."""
    found: list[Breach] = []
    listed = {run.id for run in (await client.runs.list(RunFilter(), limit=500)).runs}
    for name, run_id in ids.items():
        if run_id not in listed:
            found.append(Breach("S13", name, "is not listed"))
        for ask in (client.runs.show, client.runs.cancel):
            try:
                await ask(run_id)
            except JobdeckError:
                continue
            except Exception as error:
                found.append(Breach("S13", name, f"{ask.__name__}: {type(error).__name__}: {error}"))
    return found


async def _untold(case: Case, ids: dict[str, UUID]) -> AsyncIterator[Breach]:
    """What the command line does not show: the list, and one run in five."""
    code, out, told = await said(case, "runs", "list", "--limit", "500", "--json")
    if code or any(show_id("run", run_id) not in out for run_id in ids.values()):
        yield Breach("S13", "-", f"are not listed: {told}")
    for name, run_id in list(ids.items())[::5]:
        code, _, told = await said(case, "runs", "show", show_id("run", run_id), "--json")
        if code:
            yield Breach("S13", name, f"is not shown: {told}")


def _forget(case: Case, ids: list[UUID]) -> None:
    """Without the rows of nobody's making; what is left is judged as always."""
    with case.connection() as conn:
        for table in (attempts, run_events, run_logs, checkpoints, leases):
            conn.execute(delete(table).where(table.c.run_id.in_(ids)))
        conn.execute(delete(runs).where(runs.c.id.in_(ids)))
