"""What every operation of the client declares: the permission it needs, and the act that it is in the audit.

`@needs` is for what only looks, `@acts` for what changes something. A test holds every public operation to one of them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import wraps
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol, TypeVar, cast

from jobdeck.audit import AuditOutcome
from jobdeck.errors import DatabaseError, Forbidden, JobdeckError
from jobdeck.model import BatchResult
from jobdeck.people import Permission, Role, refusal, unknown_team
from jobdeck.store.audit.acts import Act, Refused, current, store_refused
from jobdeck.store.members import role_of

if TYPE_CHECKING:
    from jobdeck.client.session import Session

T = TypeVar("T")
Operation = TypeVar("Operation", bound=Callable[..., Coroutine[Any, Any, Any]])

_log = logging.getLogger("jobdeck.client")
_FRESH: Final = 2.0
"""Seconds for which a role is taken for what it was. What matters most is looked at again in its own transaction."""


_stored_aside: Final[set[asyncio.Task[None]]] = set()
"""Kept while they run: the loop alone would forget them."""


class Api(Protocol):
    """A part of the client."""

    _session: Session


class Guard:
    """The role of one actor in one team, read again when it is not fresh any more."""

    def __init__(self) -> None:
        self._role: Role | None = None
        self._until = 0.0

    async def role(self, session: Session) -> Role | None:
        """What the actor is in the team; None for a stranger."""
        if time.monotonic() >= self._until:
            database = session.database
            self._role = await database.read(
                role_of, database.differences, session.scope.team_id, session.actor
            )
            self._until = time.monotonic() + _FRESH
        return self._role

    async def check(self, session: Session, permission: Permission) -> None:
        """Raises NotFound for a stranger to the team, Forbidden for a member who may not."""
        role = await self.role(session)
        refused = refusal(role, permission, session.scope.slug, session.actor)
        if refused is not None:
            raise refused


def needs(
    permission: Permission | None, *, denied: str | None = None, aside: bool = False
) -> Callable[[Operation], Operation]:
    """Declare what an operation that is no act of its own asks of the actor; None: nothing, it shows what is theirs.

    `denied` is the act that stands in the audit where it was refused, on what its first argument names: for what
    programs do too often for a row each. `aside`: nobody waits for that row, since whoever asks may hold the database.
    """

    def declare(operation: Operation) -> Operation:
        named = _first_name(operation)

        @wraps(operation)
        async def run(self: Api, *args: Any, **kwargs: Any) -> Any:
            session = self._session
            # What an act looks at on its way is a part of it.
            if permission is not None and not session.by_worker and current.get() is None:
                try:
                    await session.guard.check(session, permission)
                except JobdeckError as error:
                    if denied is not None:
                        asked = None if aside else _asked(named, args, kwargs)
                        act = Act(session.scope.team_id, session.actor, denied, asked, "run")
                        await _deny(session, act, error, aside=aside)
                    raise
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
        named = _first_name(operation)

        @wraps(operation)
        async def run(self: Api, *args: Any, **kwargs: Any) -> Any:
            session = self._session
            if session.by_worker or current.get() is not None:
                return await operation(self, *args, **kwargs)
            act = Act(
                session.scope.team_id,
                session.actor,
                action,
                _asked(named, args, kwargs),
                kind,
                _reason(kwargs),
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
        await _deny(session, act, error)
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


async def refuse_entry(session: Session) -> NoReturn:
    """Raises NotFound for a stranger who names a team, which is the only act of theirs there can be."""
    scope = session.scope
    error = unknown_team(scope.slug)
    act = Act(scope.team_id, session.actor, "team.enter", scope.slug)
    await _deny(session, act, error)
    raise error


async def _deny(session: Session, act: Act, error: JobdeckError, *, aside: bool = False) -> None:
    storing = _refused(session, Refused(act, AuditOutcome.DENIED, error.code), error)
    if not aside:
        await storing
        return
    task = asyncio.create_task(storing)
    _stored_aside.add(task)
    task.add_done_callback(_stored_aside.discard)


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


def _first_name(operation: Callable[..., Any]) -> str | None:
    """What the first argument is called. Whatever else is given may be a secret, and is not for the audit."""
    first = list(signature(operation).parameters.values())[1:2]
    return first[0].name if first and first[0].kind is Parameter.POSITIONAL_OR_KEYWORD else None


def _asked(named: str | None, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    if named is None:
        return None
    return args[0] if args else kwargs.get(named)


def _reason(kwargs: Mapping[str, Any]) -> str | None:
    found = kwargs.get("reason") or kwargs.get("note")
    return found if isinstance(found, str) else None
