"""What every operation of the client declares: the permission it needs, and the act that it is in the audit.

`@needs` is for what only looks, `@acts` for what changes something. A test holds every public operation to one of them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, cast

from jobdeck.audit import AuditOutcome
from jobdeck.errors import DatabaseError, Forbidden, JobdeckError
from jobdeck.model import BatchResult
from jobdeck.people import Permission, Role, refusal
from jobdeck.store.acts import Act, Refused, current, store_refused
from jobdeck.store.members import role_of

if TYPE_CHECKING:
    from jobdeck.client.session import Session

T = TypeVar("T")
Operation = TypeVar("Operation", bound=Callable[..., Coroutine[Any, Any, Any]])

_log = logging.getLogger("jobdeck.client")
_FRESH: Final = 2.0
"""Seconds for which a role is taken for what it was. What matters most is looked at again in its own transaction."""


class Api(Protocol):
    """A part of the client."""

    _session: Session


class Guard:
    """The role of one actor in one team, read again when it is not fresh any more."""

    def __init__(self) -> None:
        self._role: Role | None = None
        self._until = 0.0

    async def check(self, session: Session, permission: Permission) -> None:
        """Raises NotFound for a stranger to the team, Forbidden for a member who may not."""
        if time.monotonic() >= self._until:
            database = session.database
            self._role = await database.read(
                role_of, database.differences, session.scope.team_id, session.actor
            )
            self._until = time.monotonic() + _FRESH
        refused = refusal(self._role, permission, session.scope.slug, session.actor)
        if refused is not None:
            raise refused


def needs(permission: Permission | None) -> Callable[[Operation], Operation]:
    """Declare what an operation that changes nothing asks of the actor; None: nothing, it shows what is theirs."""

    def declare(operation: Operation) -> Operation:
        @wraps(operation)
        async def run(self: Api, *args: Any, **kwargs: Any) -> Any:
            session = self._session
            # What an act looks at on its way is a part of it.
            if permission is not None and not session.by_worker and current.get() is None:
                await session.guard.check(session, permission)
            return await operation(self, *args, **kwargs)

        run.needs = permission  # type: ignore[attr-defined]
        return cast(Operation, run)

    return declare


def acts(action: str, permission: Permission, *, on: str | None = None) -> Callable[[Operation], Operation]:
    """Declare an operation that changes something: what it is called in the audit, and what it asks of the actor.

    `on` is the kind of thing that its first argument names, where that is not the one before the dot of `action`. A
    reason is what the operation is given as `reason` or `note`.
    """
    kind = on or action.partition(".")[0]

    def declare(operation: Operation) -> Operation:
        @wraps(operation)
        async def run(self: Api, *args: Any, **kwargs: Any) -> Any:
            session = self._session
            if session.by_worker or current.get() is not None:
                return await operation(self, *args, **kwargs)
            act = Act(
                session.scope.team_id, session.actor, action, _asked(args, kwargs), kind, _reason(kwargs)
            )
            return await _audited(session, act, permission, lambda: operation(self, *args, **kwargs))

        run.needs = permission  # type: ignore[attr-defined]
        run.action = action  # type: ignore[attr-defined]
        return cast(Operation, run)

    return declare


async def _audited(
    session: Session, act: Act, permission: Permission, operate: Callable[[], Awaitable[T]]
) -> T:
    """Do it as that act: what it writes carries its row. Of what was refused a row is stored afterwards."""
    try:
        await session.guard.check(session, permission)
    except JobdeckError as error:
        await _refused(session, Refused(act, AuditOutcome.DENIED, error.code), error)
        raise
    token = current.set(act)
    try:
        result = await operate()
    except Exception as error:
        current.reset(token)
        code = error.code if isinstance(error, JobdeckError) else "unexpected"
        outcome = AuditOutcome.DENIED if isinstance(error, Forbidden) else AuditOutcome.FAILED
        await _refused(session, Refused(act, outcome, code), error)
        raise
    except BaseException:
        current.reset(token)
        raise
    current.reset(token)
    failed = _errors_in(result)
    if failed:
        await _refused(session, Refused(act, AuditOutcome.FAILED, failed[0].code, len(failed)), failed[0])
    return result


async def _refused(session: Session, refused: Refused, error: Exception) -> None:
    # Where the database is what failed, nothing can be told of it there.
    if isinstance(error, DatabaseError):
        return
    try:
        await session.database.write(store_refused, refused)
    except Exception as trouble:
        _log.warning("%s by %s is not in the audit: %s", refused.act.action, refused.act.actor, trouble)


def _errors_in(result: Any) -> list[JobdeckError]:
    """Those of a batch whose items fail one by one."""
    if not isinstance(result, list) or not result or not isinstance(result[0], BatchResult):
        return []
    return [each.error for each in result if each.error is not None]


def _asked(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    return args[0] if args else next(iter(kwargs.values()), None)


def _reason(kwargs: Mapping[str, Any]) -> str | None:
    found = kwargs.get("reason") or kwargs.get("note")
    return found if isinstance(found, str) else None
