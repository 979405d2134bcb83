"""A fleet that loses a worker and gets it back: what is done to it, and what must be true afterwards.

How a worker is cut off is left to whoever plays the scene: a line of TCP that is held, or a real network.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from jobdeck.ids import parse_id
from tests.acceptance.deck import Deck

CONCURRENCY = 4
QUICK = 48


@dataclass
class Scene:
    """The victim is worker number 0. `lease` in seconds; `direct` is the database's URL for looking at its rows."""

    deck: Deck
    direct: str
    lease: float
    start_worker: Callable[[int], int]
    """Start worker number n; its process id."""
    cut: Callable[[], None]
    heal: Callable[[], None]
    say: Callable[[str], None] = lambda _line: None
    pids: list[int] = field(default_factory=list)

    @property
    def ledger(self) -> Path:
        """Where the handlers note what they do."""
        return self.deck.folder / "ledger"

    def play(self) -> None:
        """From the first worker to the last proof."""
        short, long = self._give_the_victim_runs()
        quick = self._start_the_others()
        self.say("worker 0 is cut off while it runs four; two of them end at once, and cannot be stored")
        began = time.monotonic()
        self.cut()
        (self.deck.folder / "short").touch()
        self._until_taken_over([*short, *long])
        self.deck.until(lambda: time.monotonic() - began > 2 * self.lease)
        self.say(f"after {time.monotonic() - began:.1f} s it comes back")
        self.heal()
        self._until_refused(short, long)
        (self.deck.folder / "long").touch()
        self.deck.until(lambda: not self.deck.json("runs", "list", "--group", "running")["runs"])
        self.deck.until(lambda: not self.deck.json("runs", "list", "--group", "pending")["runs"])
        self._prove(short, long, quick)
        self._the_victim_works_again()

    def _trigger(self, until: str, later_until: str, count: int) -> list[str]:
        """Runs that wait for a file of this name (empty: for nothing), and again where another one takes over."""
        files = {
            name: str(self.deck.folder / file) if file else ""
            for name, file in (("until", until), ("later_until", later_until))
        }
        params = json.dumps({"ledger": str(self.ledger), **files})
        done = self.deck.json("trigger", "trace", "--params", params, "--count", str(count))
        ids: list[str] = done["ids"]
        return ids

    def _give_the_victim_runs(self) -> tuple[list[str], list[str]]:
        self.pids.append(self.start_worker(0))
        self.deck.until(lambda: len(self._live()) == 1)
        short, long = self._trigger("short", "long", 2), self._trigger("long", "long", 2)
        self.deck.until(lambda: all(self.deck.show(run)["status"] == "running" for run in (*short, *long)))
        return short, long

    def _start_the_others(self) -> list[str]:
        self.pids += [self.start_worker(number) for number in (1, 2, 3)]
        self.deck.until(lambda: len(self._live()) == 4)
        self.say(f"workers {self.pids} are at work")
        return self._trigger("", "", QUICK)

    def _live(self) -> list[dict[str, Any]]:
        return [each for each in self.deck.json("workers", "list") if each["state"] in ("idle", "busy")]

    def _until_taken_over(self, runs: list[str]) -> None:
        """Others run them now, under leases of their own: nothing but the fence keeps the victim's writes apart."""
        began = time.monotonic()
        self.deck.until(lambda: all(self._is_run_again(run) for run in runs))
        self.say(
            f"its runs are at others {time.monotonic() - began:.1f} s after the cut (lease {self.lease} s)"
        )

    def _is_run_again(self, run: str) -> bool:
        shown = self.deck.show(run)
        return (shown["status"], shown["attempt"]) == ("running", 2)

    def _until_refused(self, short: list[str], long: list[str]) -> None:
        """The victim has learnt that its runs are others' now: two when it fell silent, two when it wrote late."""
        said = [f"lease lost on {run}" for run in long]
        said += [f"the outcome of {run} is refused" for run in short]
        self.deck.until(lambda: all(words in self.deck.log_of(0) for words in said))
        for line in self.deck.log_of(0).splitlines():
            if "lease lost" in line or "is refused" in line:
                self.say(f"  worker 0: {line}")

    def _prove(self, short: list[str], long: list[str], quick: list[str]) -> None:
        victim, taken = self.pids[0], [*short, *long]
        with closing(psycopg.connect(self.direct)) as conn:
            facts = Facts(conn)
            assert facts.rows("SELECT count(*) FROM leases") == [(0,)]
            assert facts.rows("SELECT status, count(*) FROM runs GROUP BY status") == [
                ("completed", len(taken) + len(quick))
            ]
            for run in taken:
                first, second = facts.attempts(run)
                assert (first[0], second[0]) == ("crashed", "completed")
                assert first[1].endswith(f":{victim}")
                assert not second[1].endswith(f":{victim}")
                assert facts.events(run) == [(1, "crashed", "pending"), (2, "completed", "completed")]
                # The one result and the one line of log are those of the worker that took it over.
                assert second[1].endswith(f":{facts.result(run)}")
                assert facts.logs(run) == [2]
            for run in quick:
                assert [outcome for outcome, _ in facts.attempts(run)] == ["completed"]
                assert facts.events(run) == [(1, "completed", "completed")]
        self._prove_by_the_ledger(short, long, quick)

    def _prove_by_the_ledger(self, short: list[str], long: list[str], quick: list[str]) -> None:
        """Outside jobdeck: everything was ended, once by a holder of its lease, and nothing was begun twice on one."""
        lines = [line.split() for line in self.ledger.read_text().splitlines()]
        begun = Counter((run, fence) for run, fence, _, what in lines if what == "start")
        ended = Counter((run, fence) for run, fence, _, what in lines if what == "end")
        assert set(begun.values()) == set(ended.values()) == {1}
        key = {run: str(parse_id("run", run)) for run in (*short, *long, *quick)}
        assert set(begun) == {(key[run], "1") for run in key} | {(key[run], "2") for run in (*short, *long)}
        # Of the short ones the victim reached the end as well, and could not make it count.
        assert set(ended) == {(key[run], "1") for run in (*quick, *short)} | {
            (key[run], "2") for run in (*short, *long)
        }
        self.say(
            f"{len(key)} runs completed, 0 lost; {len(begun)} starts, {len(ended)} ends, "
            f"{len(key)} outcomes; the {len(short)} late ones were refused"
        )

    def _the_victim_works_again(self) -> None:
        """It is a worker like before: it takes new runs."""
        before = self._done_by_the_victim()
        self.deck.until(lambda: self._trigger("", "", 8) and self._done_by_the_victim() > before)
        self.deck.until(lambda: len(self._live()) == 4)
        self.say("worker 0 takes runs again")

    def _done_by_the_victim(self) -> int:
        return sum(each["finished_runs"] for each in self._live() if each["pid"] == self.pids[0])


class Facts:
    """What the rows say."""

    def __init__(self, conn: psycopg.Connection[Any]) -> None:
        self._conn = conn

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        return self._conn.execute(query, values).fetchall()  # type: ignore[call-overload,unused-ignore]

    def _of(self, run: str, what: str, table: str) -> list[tuple[Any, ...]]:
        return self.rows(f"SELECT {what} FROM {table} WHERE run_id = %s ORDER BY 1", parse_id("run", run))

    def attempts(self, run: str) -> list[tuple[str, str]]:
        """Outcome and worker of each, in order."""
        return [(row[1], row[2]) for row in self._of(run, "fence, outcome, worker", "attempts")]

    def events(self, run: str) -> list[tuple[int, str, str]]:
        """Fence, outcome and new status of each attempt that ended."""
        what = "fence, data::json->>'outcome', data::json->>'status'"
        ended = [row for row in self._of(run, f"{what}, kind", "run_events") if row[3] == "attempt_ended"]
        return [(row[0], row[1], row[2]) for row in ended]

    def logs(self, run: str) -> list[int]:
        """The attempt of each line."""
        return [row[0] for row in self._of(run, "attempt", "run_logs")]

    def result(self, run: str) -> str:
        ((found,),) = self.rows("SELECT result FROM runs WHERE id = %s", parse_id("run", run))
        return str(found)
