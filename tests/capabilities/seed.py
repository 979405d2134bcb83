"""A database with what the commands of the page need: for each word of each command a thing of its own.

Everything is made by the client, as programs do it, and by workers, some of which do not live long.
"""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID, uuid4

from jobdeck import Backoff
from jobdeck.client import Client
from jobdeck.ids import show_id, tail
from jobdeck.model import Run, RunFilter
from jobdeck.notifiers import DeliveryState
from jobdeck.retry import Growth
from jobdeck.states import TERMINAL, Status
from jobdeck.sync import SyncClient
from tests.acceptance.deck import PATIENCE, Deck
from tests.handlers.api import Api, Reply

# Nobody works on this queue.
_PARKED: Final = "parked"
# Stands for the origin of the other side, whose port is free until then.
_ELSEWHERE: Final = "{elsewhere}"
_FAILING: Final = {"seconds": 0, "fail": True}
_AT_ONCE: Final = Backoff(growth=Growth.FIXED, base=0.0)
_MUCH_LATER: Final = Backoff(growth=Growth.FIXED, base=3_600.0, jitter=False)


@dataclass(frozen=True, slots=True)
class Kind:
    """Runs of one kind: what is asked for, and what they have become when the seed is done."""

    job_type: str
    params: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    is_ready: Callable[[Run], bool] = lambda run: run.status in TERMINAL


def _is_pending(run: Run) -> bool:
    return run.status is Status.PENDING


RUNS: Final[Mapping[str, Kind]] = {
    "RUN": Kind("noop", {"echo": 1}),
    "TAIL": Kind("noop"),
    "STEPS_RUN": Kind("sleep", {"seconds": 0, "steps": 3}),
    "LOGGED_RUN": Kind("command", {"argv": ["/bin/sh", "-c", "echo one; echo two; echo three"]}),
    "FAILED_RUN": Kind("sleep", _FAILING, {"max_attempts": 1}),
    "DEAD_RUN": Kind("sleep", _FAILING, {"max_attempts": 2, "backoff": _AT_ONCE}),
    "TIMED_OUT_RUN": Kind(
        "sleep", {"seconds": 600}, {"max_attempts": 1, "timeout": timedelta(milliseconds=100)}
    ),
    "EXPIRED_RUN": Kind("noop", {}, {"ttl": timedelta(milliseconds=1), "queue": _PARKED}),
    "RETRYING_RUN": Kind("sleep", _FAILING, {"backoff": _MUCH_LATER}, lambda run: run.label == "retrying"),
    "RUNNING_RUN": Kind("sleep", {"seconds": 600}, {}, lambda run: run.status is Status.RUNNING),
    "CRASHED_RUN": Kind("sleep", {"seconds": 600}, {"queue": "doomed"}, lambda run: run.crash_count == 1),
    "INTERRUPTED_RUN": Kind(
        "sleep", {"seconds": 600}, {"queue": "stopped"}, lambda run: _is_pending(run) and run.attempt == 1
    ),
    "WAITING_RUN": Kind("noop", {}, {"queue": _PARKED}, _is_pending),
    "LATER_RUN": Kind("noop", {}, {"delay": timedelta(days=1)}, _is_pending),
    "TOLD_RUN": Kind("noop", {}, {"callback_url": f"{_ELSEWHERE}/ended"}),
    "PARKED_RUN": Kind("http", {"url": f"{_ELSEWHERE}/later"}, {}, lambda run: run.label == "parked"),
    "APPROVAL_RUN": Kind(
        "noop", {}, {"requires_approval": True}, lambda run: run.status is Status.AWAITING_APPROVAL
    ),
    "CANCELLED_RUN": Kind("noop", {}, {"queue": _PARKED}),
}
JOBS: Final[Mapping[str, Mapping[str, Any]]] = {
    "JOB": {"type": "noop"},
    "DISABLED_JOB": {"type": "noop"},
    "BUSY_JOB": {"type": "noop", "queue": _PARKED},
    "SCHEDULED_JOB": {"type": "noop", "schedule": {"cron": "0 3 1 1 *", "timezone": "Europe/London"}},
}
OTHERS: Final = (
    "OWN_RUN", "SLUG", "KEY", "TABLE", "RUNS_FILE", "DEFINITIONS_FILE", "JOBS_FILE", "CURSOR", "STRANGERS",
    "WATCHED", "DELIVERY", "PULL_QUEUE", "CLAIMED_RUN", "TOKEN",
)  # fmt: skip
WORDS: Final = (*RUNS, *JOBS, *OTHERS)


async def _cancel(client: Client, run_id: UUID) -> None:
    await client.runs.cancel(run_id)


class Seed:
    """Hands out what the words of commands stand for."""

    def __init__(self, deck: Deck, client: SyncClient, elsewhere: Api) -> None:
        self._deck, self._client, self._elsewhere = deck, client, elsewhere
        elsewhere.routes |= {"/later": lambda _: Reply(status=202), "/ended": lambda _: Reply()}
        self._runs: dict[str, list[UUID]] = {}
        self._last_token = ""

    def grow(self, wanted: Counter[str]) -> None:
        """Make so many runs of each kind, and see that each becomes what it is called."""
        wanted = wanted + Counter({"TOLD_RUN": wanted["DELIVERY"]})
        for word, kind in RUNS.items():
            self._runs[word] = [self._trigger(kind) for _ in range(wanted[word])]
        for run_id in self._runs["CANCELLED_RUN"]:
            self._client(partial(_cancel, run_id=run_id))
        self._work()
        for word, kind in RUNS.items():
            self._until(word, kind.is_ready)

    def _trigger(self, kind: Kind) -> UUID:
        params, options = map(self._with_origin, (kind.params, kind.options))
        return self._client(lambda client: client.runs.enqueue(kind.job_type, params, **options))

    def _with_origin(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        origin = self._elsewhere.origin
        return {
            name: value.replace(_ELSEWHERE, origin) if isinstance(value, str) else value
            for name, value in facts.items()
        }

    def _until(self, word: str, holds: Callable[[Run], bool]) -> None:
        """Look at the runs of a kind whenever something has changed, until it holds for all of them."""
        ids = self._runs[word]
        deadline = time.monotonic() + PATIENCE
        while not all(map(holds, found := self._client(lambda client: client.runs.by_ids(ids)))):
            assert time.monotonic() < deadline, (word, [(run.label, run.error) for run in found])
            self._client(lambda client: client.changed(1.0))

    def _work(self) -> None:
        """One worker that stays, one that is killed at its work, one that is stopped at it."""
        self._deck.settings["JOBDECK_RUNNER__SHUTDOWN_GRACE"] = "0s"
        self._deck.worker("--queue", "default", "--concurrency", "40")
        doomed = self._deck.worker("--queue", "doomed")
        stopped = self._deck.worker("--queue", "stopped")
        for word, worker, number in (
            ("CRASHED_RUN", doomed, signal.SIGKILL),
            ("INTERRUPTED_RUN", stopped, signal.SIGTERM),
        ):
            self._until(word, lambda run: run.status is Status.RUNNING)
            worker.send_signal(number)
            worker.wait()

    def take(self, word: str) -> str:
        """What stands for the word in one command, and in no other."""
        if word in RUNS:
            run_id = self._runs[word].pop()
            shown = show_id("run", run_id)
            if word == "PARKED_RUN":
                asked = next(
                    each for each in self._elsewhere.asked if each.headers.get("Jobdeck-Run") == str(run_id)
                )
                self._last_token = asked.headers["Jobdeck-Token"]
            return tail(shown) if word == "TAIL" else shown
        if word in JOBS:
            return self._job(word)
        made: str = getattr(self, f"_{word.lower()}")()
        return made

    def _job(self, word: str) -> str:
        slug = self._slug()
        job = self._client(
            lambda client: client.jobs.create(slug, JOBS[word], enabled=word != "DISABLED_JOB")
        )
        if word == "BUSY_JOB":
            self._client(lambda client: client.jobs.trigger(job.id))
        elif word == "JOB":
            self._client(lambda client: client.jobs.update(job.id, {"priority": 7}, note="not so soon"))
        return slug

    def _slug(self) -> str:
        return f"job-{uuid4().hex[:12]}"

    def _key(self) -> str:
        return uuid4().hex

    def _own_run(self) -> str:
        return str(self._deck.json("trigger", "noop", "--needs-approval")["id"])

    def _table(self) -> str:
        params = {"url": "https://example.com/items", "table": f"t_{uuid4().hex}", "mode": "insert"}
        self._client(lambda client: client.runs.trigger("http_sync", params, queue=_PARKED))
        return params["table"]

    def _runs_file(self) -> str:
        return self._file("ndjson", [{"type": "noop"}, {"type": "sleep", "params": {"seconds": 0}}])

    def _definitions_file(self) -> str:
        return self._file("ndjson", [{"slug": self._slug(), "type": "noop"} for _ in range(2)])

    def _jobs_file(self) -> str:
        path = self._deck.folder / f"{uuid4().hex}.toml"
        path.write_text(f'[jobs.{self._slug()}]\ntype = "noop"\n')
        return path.name

    def _file(self, ending: str, lines: list[dict[str, Any]]) -> str:
        path = self._deck.folder / f"{uuid4().hex}.{ending}"
        path.write_text("\n".join(map(json.dumps, lines)))
        return path.name

    def _cursor(self) -> str:
        cursor = self._client(lambda client: client.runs.find(RunFilter(), limit=1)).cursor
        assert cursor is not None
        return cursor

    def _delivery(self) -> str:
        """Waited for: workers send beside their runs, and what is being sent is not sent again."""
        run_id = self._runs["TOLD_RUN"].pop()
        deadline = time.monotonic() + PATIENCE
        while True:
            (found,) = self._client(lambda client: client.deliveries.list(run_id=run_id))
            if found.state is DeliveryState.DELIVERED:
                return show_id("msg", found.id)
            assert time.monotonic() < deadline, found
            self._client(lambda client: client.changed(1.0))

    def _pull_queue(self) -> str:
        name = self._key()
        self._client(lambda client: client.queues.create(name, pull=True))
        self._client(lambda client: client.runs.enqueue("noop", queue=name))
        return name

    def _claimed_run(self) -> str:
        name = self._pull_queue()
        (work,) = self._client(lambda client: client.queues.claim(name, visibility=3_600))
        self._last_token = work.token
        return show_id("run", work.run_id)

    def _token(self) -> str:
        path = self._deck.folder / uuid4().hex
        path.write_text(self._last_token)
        return path.name

    def _watched(self) -> str:
        slug = self._strangers()
        ann = Deck(self._deck.url, self._deck.folder, settings={"JOBDECK_ACTOR": "ann"})
        for name, role in (("ann", "admin"), ("bob", "viewer")):
            done = ann.run("members", "add", name, "--role", role, "--team", slug)
            assert done.returncode == 0, done
        return slug

    def _strangers(self) -> str:
        return self._client(lambda client: client.teams.create(f"team-{uuid4().hex[:12]}")).slug
