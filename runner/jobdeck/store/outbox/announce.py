"""Notifications of ends, written down in the transaction of the end itself: what is told, and to whom."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit
from uuid import UUID

from sqlalchemy import and_, select

from jobdeck import limits
from jobdeck.clock import from_us
from jobdeck.ids import show_id
from jobdeck.notifiers import CALLBACK, WEBHOOK, DeliveryState, Receiver, receivers
from jobdeck.states import Status
from jobdeck.store.failures import concerns_all
from jobdeck.store.schema import job_versions, jobs, outbox, projects, runs, teams
from jobdeck.store.transaction import Hint, Tx
from jobdeck.text import clean

_log = logging.getLogger("jobdeck.store.outbox.announce")
T = TypeVar("T")
_AT_ONCE: Final = 500
_ERROR_CHARS: Final = 2_000


def announce(tx: Tx, run_ids: Sequence[UUID]) -> None:
    """These runs have just ended, and are marked as told of: write down what is told to whom.

    A run that ends again the same way without having begun again is not told of again. A row that is spoilt keeps no
    run from ending: what cannot be read is left out.
    """
    for start in range(0, len(run_ids), _AT_ONCE):
        some = run_ids[start : start + _AT_ONCE]
        if not _written(tx, some) and len(some) > 1:
            for run_id in some:
                _written(tx, [run_id])


def _written(tx: Tx, run_ids: Sequence[UUID]) -> bool:
    """False where one of them keeps it from being written; of one alone that is said in the log."""
    try:
        with tx.attempt():
            found = tx.conn.execute(_ENDED.where(runs.c.id.in_(run_ids)))
            if rows := [row for run in found for row in _rows(run, tx.now)]:
                tx.conn.execute(tx.differences.insert(outbox).on_conflict_do_nothing(), rows)
                tx.hint(Hint.MAIL)
    except Exception as error:
        if concerns_all(error):
            raise
        if len(run_ids) == 1:
            _log.error("nobody is told of the end of %s", show_id("run", run_ids[0]), exc_info=error)
        return False
    return True


_ENDED: Final = select(
    *(
        runs.c[name]
        for name in ("id", "team_id", "fence", "status", "job_type", "failure_kind", "error", "attempt")
    ),
    *(
        runs.c[name]
        for name in ("callback_url", "notify", "result", "started_at", "finished_at", "triggered_by")
    ),
    runs.c.job_id,
    teams.c.slug.label("team"),
    projects.c.slug.label("project"),
    jobs.c.slug.label("job"),
    job_versions.c.definition,
).select_from(
    runs.join(teams, teams.c.id == runs.c.team_id)
    .outerjoin(projects, and_(projects.c.id == runs.c.project_id, projects.c.team_id == runs.c.team_id))
    .outerjoin(jobs, jobs.c.id == runs.c.job_id)
    .outerjoin(
        job_versions,
        and_(job_versions.c.job_id == runs.c.job_id, job_versions.c.version == runs.c.job_version),
    )
)


def _rows(run: Any, now: int) -> Iterator[dict[str, Any]]:
    status = Status(run.status)
    facts = _facts(run.definition)
    for receiver in receivers(facts, status, notify=bool(run.notify), callback_url=run.callback_url):
        event = f"run.{status}"
        yield {
            "id": digest_id(run.id.hex, str(run.fence), event, *receiver),
            "team_id": run.team_id,
            "run_id": run.id,
            "fence": run.fence,
            "event": event,
            "channel": receiver.channel,
            "receiver": _group_of(receiver),
            "owner_id": run.team_id if receiver.channel == CALLBACK else run.job_id or run.team_id,
            "state": DeliveryState.PENDING,
            "tries_max": limits.DELIVERY_TRIES,
            "next_at": now,
            "created_at": now,
            # What no text can be stored with leads nowhere; whoever tries says so.
            "endpoint": clean(receiver.endpoint),
            "body": _body(run, event, now, with_result=receiver.channel == CALLBACK),
        }


def _facts(definition: str | None) -> Mapping[str, Any]:
    """A run ends whatever stands in the definition of its job."""
    found = _readable(lambda: json.loads(definition)) if definition else {}
    return found if isinstance(found, dict) else {}


def digest_id(*parts: str) -> UUID:
    """An id that is the same for the same parts."""
    return UUID(bytes=hashlib.sha256("\n".join(parts).encode("utf-8", "surrogatepass")).digest()[:16])


def _group_of(receiver: Receiver) -> str:
    """Whoever is spared together: a host, or all that goes by one channel."""
    if receiver.channel not in (CALLBACK, WEBHOOK):
        return receiver.channel
    try:
        return (urlsplit(receiver.endpoint).hostname or "")[:255]
    except ValueError:
        # Nothing can be sent there; whoever tries says so.
        return ""


def _body(run: Any, event: str, now: int, *, with_result: bool) -> str:
    data: dict[str, Any] = {
        "run_id": show_id("run", run.id),
        "job": run.job,
        "job_type": run.job_type,
        "team": run.team,
        "project": run.project,
        "status": run.status,
        "failure_kind": run.failure_kind,
        "attempt": run.attempt,
        "error": None if run.error is None else _readable(lambda: clean(run.error, _ERROR_CHARS, lines=True)),
        "started_at": _iso(run.started_at),
        "finished_at": _iso(run.finished_at),
        "triggered_by": run.triggered_by,
    }
    if with_result:
        data |= _readable(lambda: _result(run.result)) or {
            "result": None,
            "result_omitted": "it cannot be read",
        }
    told: Mapping[str, Any] = {"type": event, "timestamp": _iso(now), "data": data}
    # In ASCII: no text that a result may hold can then keep the run from ending. SQLite may have bytes for a text.
    return json.dumps(told, separators=(",", ":"), default=lambda _: None)


def _result(stored: str | None) -> dict[str, Any]:
    if stored is None:
        return {"result": None}
    if len(stored.encode()) > limits.TOLD_RESULT_BYTES:
        return {"result": None, "result_omitted": f"it has more than {limits.TOLD_RESULT_BYTES:,} bytes"}
    return {"result": json.loads(stored)}


def _iso(moment: int | None) -> str | None:
    if moment is None:
        return None
    return _readable(lambda: from_us(moment).isoformat().replace("+00:00", "Z"))


def _readable(read: Callable[[], T]) -> T | None:
    """What this reads; None where the row has been spoilt: a number beyond all times, a text for a number, no JSON."""
    try:
        return read()
    except Exception:
        return None
