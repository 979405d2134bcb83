"""Named places at which a process of a case dies, freezes or fails; put in from outside, jobdeck knows nothing of them.

`JOBDECK_TEST_KILL=finish.before_commit:3:exit` ends the process at the third passing of that place. The program
that installs them is `tests.faults.launch`.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection

from jobdeck.store.transaction import Tx, Verb
from tests.faults.ledger import ledger_of_environment

KILL_VARIABLE = "JOBDECK_TEST_KILL"
EXIT_CODE = 137

POINTS = (
    "enqueue.before_commit",
    "enqueue.after_commit",
    "claim.before_commit",
    "claim.after_commit",
    "handler.start",
    "handler.end",
    "finish.before_commit",
    "finish.after_commit",
    "lease.before_renew",
)
"""Where a process that works on runs can be hit."""

TELLING = "tell.before_commit"
"""Between the sending of a notification and the record of it."""

FIRING = ("fire.inserted", "fire.before_commit", "fire.after_commit")
"""Where a process that makes the runs of schedules can be: its runs are made, the schedule has moved on too, all is
stored."""

AFTER_EFFECT = frozenset({"handler.end", "finish.before_commit"})
"""Points at which an effect has happened that the database does not know of yet: the only ones that may repeat it."""

_VERBS = frozenset({"enqueue", "claim", "finish", "fire", "tell"})
_FIRES = "tests.faults.fires"
_IN_TRANSACTION = "tests.faults.verbs"


class Action(StrEnum):
    """What happens there."""

    EXIT = "exit"
    """The process is gone at once, as by SIGKILL."""
    FREEZE = "freeze"
    """The process stops until somebody continues it."""
    FAIL = "fail"
    """The statement raises, as when the connection breaks there."""


@dataclass
class KillPoint:
    """One armed place; `nth` counts passings from 1."""

    point: str
    nth: int = 1
    action: Action = Action.EXIT
    passed: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.point not in (*POINTS, TELLING, *FIRING):
            raise ValueError(f"{self.point} is no kill point")

    def __str__(self) -> str:
        return f"{self.point}:{self.nth}:{self.action}"

    @classmethod
    def parse(cls, text: str) -> KillPoint:
        """From the form in the environment."""
        point, nth, action = text.split(":")
        return cls(point, int(nth), Action(action))

    def pass_by(self, point: str) -> None:
        """The process has come to `point`."""
        if point != self.point:
            return
        self.passed += 1
        if self.passed == self.nth:
            ledger_of_environment().fault(f"{self.action} at {point}", os.getpid())
            self._act()

    def _act(self) -> None:
        if self.action is Action.EXIT:
            os._exit(EXIT_CODE)
        elif self.action is Action.FREEZE:
            os.kill(os.getpid(), signal.SIGSTOP)
        else:
            raise ConnectionResetError("the case has cut the connection here")


_armed: KillPoint | None = None


def passing(point: str) -> None:
    """A process has come to this place: nothing, unless it is armed."""
    if _armed is not None:
        _armed.pass_by(point)


def install() -> None:
    """Arm the place that the environment names, and watch jobdeck's own seams: verbs and commits."""
    global _armed
    if text := os.environ.get(KILL_VARIABLE):
        _armed = KillPoint.parse(text)
        _watch_verbs()
        _watch_commits()


def _watch_verbs() -> None:
    original = Verb.__call__

    def call(self: Verb[Any, Any], tx: Tx, items: Sequence[Any]) -> Sequence[Any]:
        if self.name == "beat" and any(item.runs for item in items):
            passing("lease.before_renew")
        tx.conn.info[_FIRES] = tx.conn.info.get(_FIRES, False) or self.name == "fire"
        results = original(self, tx, items)
        if self.name == "enqueue" and tx.conn.info[_FIRES]:
            passing("fire.inserted")
            return results
        tx.conn.info[_FIRES] = False
        # A claim that found nothing is no event.
        if self.name in _VERBS and any(results):
            tx.conn.info.setdefault(_IN_TRANSACTION, set()).add(self.name)
        return results

    Verb.__call__ = call  # type: ignore[method-assign]


def _watch_commits() -> None:
    """SQLAlchemy has an event before a commit and none after it, so its own methods are wrapped."""
    connection: Any = Connection
    commit: Callable[[Connection], None] = connection._commit_impl
    rollback: Callable[[Connection], None] = connection._rollback_impl

    def watched(conn: Connection) -> None:
        verbs = sorted(conn.info.pop(_IN_TRANSACTION, ()))
        for name in verbs:
            passing(f"{name}.before_commit")
        commit(conn)
        for name in verbs:
            passing(f"{name}.after_commit")

    def forgotten(conn: Connection) -> None:
        if not conn.invalidated:
            conn.info.pop(_IN_TRANSACTION, None)
        rollback(conn)

    connection._commit_impl = watched
    connection._rollback_impl = forgotten
