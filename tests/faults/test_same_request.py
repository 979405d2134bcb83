"""The same request from many processes at the same time: one run, and everybody learns which."""

from __future__ import annotations

import asyncio
import fcntl
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from jobdeck.ids import show_id
from tests.faults.case import LONG_LEASE, PATIENCE, Case
from tests.faults.cli import said
from tests.faults.invariants import Breach

PROCESSES = 4
# By each process; 200 together, and five times as many in the whole form.
SHORT, WHOLE = 50, 250
ASKED: dict[str, dict[str, Any]] = {
    "idempotency": {"type": "work", "idempotency_key": "order-1"},
    "dedupe": {"type": "work", "dedupe_key": "user-7"},
    "flight": {"type": "single"},
}


@pytest.mark.parametrize("what", ASKED)
async def test_r27_the_same_request(case: Case, what: str) -> None:
    """Four processes ask 200 times, all at once: one run is stored, all others are given or told its id."""
    count = case.size.of(SHORT, WHOLE)
    answers = await _race(case, count, ASKED[what])
    (run,) = case.history().runs
    shown = show_id("run", run["id"])
    more = list(_wrong(answers, shown, refused=what == "flight"))
    await _by_command(case, what, shown)
    case.ledger.enqueued({"R27": run["id"]})
    case.workers.start(settings=LONG_LEASE)
    await case.settled()
    history = case.judge(more=more, faults=PROCESSES * count, note=f"{what}: {_told(answers)}")
    assert len(answers) == PROCESSES * count
    assert [row["status"] for row in history.runs] == ["completed"]
    (events,) = history.events_of().values()
    assert [row["kind"] for row in events] == ["enqueued", "attempt_ended"]
    assert len(case.effects()) == 1


async def _race(case: Case, count: int, asked: dict[str, Any]) -> list[dict[str, Any]]:
    """What each request was answered with."""
    gate = case.folder / "gate"
    with gate.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        askers = [case.workers.asker(gate, count, **asked) for _ in range(PROCESSES)]
        await case.until(lambda: all("ready" in asker.said() for asker in askers))
    codes = await asyncio.gather(*(asyncio.to_thread(asker.wait, PATIENCE) for asker in askers))
    assert codes == [0] * PROCESSES, case.last_words()
    lines = [line for asker in askers for line in asker.said().splitlines() if line.startswith("{")]
    return [json.loads(line) for line in lines]


def _wrong(answers: list[dict[str, Any]], shown: str, *, refused: bool) -> Iterator[Breach]:
    """One has made the run; the others are given it, or refused with its id."""
    made = [answer for answer in answers if answer.get("status") == "created"]
    if [answer["id"] for answer in made] != [shown]:
        yield Breach("R27", shown, f"was made by {len(made)} requests")
    for answer in answers:
        if answer in made:
            continue
        if refused and (answer.get("code"), answer.get("existing_run_id")) != ("already_active", shown):
            yield Breach("R27", shown, f"a request was answered with {answer}")
        if not refused and answer != {"id": shown, "status": "deduplicated"}:
            yield Breach("R27", shown, f"a request was answered with {answer}")


def _told(answers: list[dict[str, Any]]) -> str:
    counted = Counter(str(answer.get("status") or answer.get("code")) for answer in answers)
    return ", ".join(f"{number} {words}" for words, number in sorted(counted.items()))


async def _by_command(case: Case, what: str, shown: str) -> None:
    """The command line says the same: exit code 0 with the run there is, or 4 with its id."""
    asked = ASKED[what]
    option = {"idempotency": ["--idempotency-key", "order-1"], "dedupe": ["--dedupe-key", "user-7"]}
    arguments = ["trigger", asked["type"], "-p", "key=R27", *option.get(what, [])]
    code, out, err = await said(case, *arguments)
    as_json, told, problem = await said(case, *arguments, "--json")
    if what == "flight":
        assert (code, shown in err, as_json) == (4, True, 4)
        assert json.loads(problem)["error"]["existing_run_id"] == shown
    else:
        assert (code, out, "nothing new was made" in err, as_json) == (0, f"{shown}\n", True, 0)
        assert (json.loads(told)["id"], json.loads(told)["deduplicated"]) == (shown, True)
