"""Queues of the client's team, and what programs do that work on pull queues or end parked runs."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final, TypeAlias
from uuid import UUID

from jobdeck import jsonio, limits
from jobdeck.client.guard import acts, needs
from jobdeck.client.options import checked_queue, ranged
from jobdeck.client.session import Session
from jobdeck.clock import from_us
from jobdeck.errors import NotFound, NotParked, ValidationError
from jobdeck.people import Permission
from jobdeck.pull import AckReply, ClaimedWork, ExtendReply, Queue, new_token, token_hash
from jobdeck.retry import Backoff
from jobdeck.secret import masked, redact
from jobdeck.states import AttemptOutcome
from jobdeck.store import queues
from jobdeck.store.claim import ClaimedRun
from jobdeck.store.finish import Recover, recover
from jobdeck.store.tokens import pull
from jobdeck.text import clean, cut_bytes
from jobdeck.verdict import Ending

# Inside the class the name `list` is its own method.
Queues: TypeAlias = list[Queue]
Works: TypeAlias = list[ClaimedWork]

_PATIENCE: Final = 5.0
"""Seconds. A worker that parks a run stores that within milliseconds, unless the database is away."""
_PAUSE: Final = 0.1


class QueuesApi:
    """Queues, and the runs in the hands of programs: `claim`, `extend`, `ack`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @acts("queue.create", Permission.JOBS_WRITE)
    async def create(self, name: str, *, pull: bool = False, description: str = "") -> Queue:
        """Declare a queue; workers never take runs of a `pull` queue. Raises ValidationError, Conflict."""
        session, words = self._session, checked_description(description)
        item = queues.NewQueue(session.scope.team_id, checked_queue(name), pull, words, session.actor)
        await session.database.write(queues.create_queue, item)
        return await self.show(name)

    @needs(Permission.JOBS_READ)
    async def list(self) -> Queues:
        """By name: what is declared, and what has runs that have not ended."""
        return await self._session.read(queues.list_queues)

    @needs(Permission.JOBS_READ)
    async def show(self, name: str) -> Queue:
        """One of them. Raises NotFound."""
        found = await self._session.read(queues.list_queues, checked_queue(name))
        if not found:
            raise NotFound(f"no queue {name!r} in this team")
        return found[0]

    @acts("queue.limit", Permission.JOBS_WRITE)
    async def limit(self, name: str, most: int | None) -> Queue:
        """At most so many runs of it run at a time; None: no limit. Declares the queue. Raises ValidationError."""
        if most is not None:
            ranged("max_concurrency", most, 1, limits.CONCURRENCY_MAX)
        session = self._session
        item = queues.LimitQueue(session.scope.team_id, checked_queue(name), most, session.actor)
        await session.database.write(queues.limit_queue, item)
        return await self.show(name)

    @acts("queue.delete", Permission.JOBS_WRITE)
    async def delete(self, name: str) -> None:
        """Forget a declared queue. Raises NotFound, Conflict where runs wait in it."""
        item = queues.DropQueue(self._session.scope.team_id, checked_queue(name))
        await self._session.database.write(queues.delete_queue, item)

    @needs(Permission.JOBS_WRITE, denied="run.claim")
    async def claim(
        self,
        queue: str,
        *,
        count: int = 1,
        visibility: timedelta | float = limits.VISIBILITY,
        worker: str | None = None,
    ) -> Works:
        """Due runs of a pull queue, by priority, due time and id; nobody else gets them while `visibility` lasts.

        `worker` names the claimer in the history of the runs; None: actor@host. References to secrets in the params are
        not resolved. Raises ValidationError, NotFound, Conflict for a queue that is no pull queue.
        """
        if not 1 <= count <= limits.CLAIM_MAX:
            raise ValidationError(f"a claim takes 1 to {limits.CLAIM_MAX} runs, not {count}", field="count")
        session, tokens = self._session, [new_token() for _ in range(count)]
        item = pull.PullClaim(
            session.scope.team_id,
            checked_queue(queue),
            clean(worker or f"{session.actor}@{socket.gethostname()}", limits.TAG_CHARS),
            checked_visibility(visibility),
            tuple(token_hash(token) for token in tokens),
            self._backoff_of,
        )
        found = await session.database.write(pull.claim_pulled, item)
        if len(found) < count:
            # What is held already is told in any case: nobody else knows its tokens.
            with suppress(Exception):
                found = [*found, *await self._of_others(replace(item, hashes=item.hashes[len(found) :]))]
        return [_work(run, token) for run, token in zip(found, tokens, strict=False)]

    async def _of_others(self, item: pull.PullClaim) -> Sequence[ClaimedRun]:
        """Take back what others have claimed and not ended in time: perhaps no worker is there to do it.

        Only that: whether a worker has fallen silent a program cannot tell that has just begun to look.
        """
        database = self._session.database
        if not await database.write(recover, Recover(self._session.actor, steady_us=0)):
            return ()
        return await database.write(pull.claim_pulled, item)

    def _backoff_of(self, job_type: str) -> Backoff:
        spec = self._session.local_spec(job_type)
        return Backoff() if spec is None else spec.backoff

    @needs(Permission.JOBS_WRITE, denied="run.extend")
    async def extend(
        self, run_id: UUID, token: str, visibility: timedelta | float = limits.VISIBILITY
    ) -> ExtendReply:
        """Go on with a run, for so long from now. Raises NotFound, StaleLease, ValidationError."""
        item = pull.Extend(
            self._session.scope.team_id, run_id, token_hash(token), checked_visibility(visibility)
        )
        return await self._session.database.write(pull.extend, item)

    @acts("run.finish", Permission.JOBS_WRITE)
    async def complete(self, run_id: UUID, token: str, result: Any = None) -> AckReply:
        """End a run well. Raises NotFound, StaleLease, and ValidationError for a result that cannot be stored."""
        text = None
        if result is not None:
            jsonio.check(result, what="result")
            text = jsonio.dumps(masked(result), what="result", limit=limits.RESULT_BYTES)
        return await self._ack(run_id, token, Ending(AttemptOutcome.COMPLETED, result=text))

    @acts("run.finish", Permission.JOBS_WRITE)
    async def fail(
        self,
        run_id: UUID,
        token: str,
        error: str,
        *,
        retry: bool = True,
        after: timedelta | None = None,
    ) -> AckReply:
        """End the attempt as a failure: by the retry rule, or for good. Raises NotFound, StaleLease, ValidationError.

        `after`: the wait before the next attempt, instead of the run's own backoff.
        """
        if not error.strip():
            raise ValidationError("say what went wrong", field="error")
        wait = None if after is None else int(checked_wait(after).total_seconds() * 1_000_000)
        words = cut_bytes(clean(redact(error), lines=True), limits.ERROR_BYTES)
        ending = Ending(AttemptOutcome.ERROR, error=words, final=not retry, retry_in_us=wait)
        return await self._ack(run_id, token, ending)

    async def _ack(self, run_id: UUID, token: str, ending: Ending) -> AckReply:
        session = self._session
        item = pull.Ack(session.scope.team_id, run_id, token_hash(token), session.actor, ending)
        loop = asyncio.get_running_loop()
        until = loop.time() + _PATIENCE
        while True:
            try:
                return await session.database.write(pull.ack, item)
            except NotParked:
                # Quicker than the worker that is about to park it.
                if loop.time() > until:
                    raise
            await asyncio.sleep(_PAUSE)


def _work(run: ClaimedRun, token: str) -> ClaimedWork:
    return ClaimedWork(
        run_id=run.id,
        job_type=run.job_type,
        queue=run.queue,
        project=run.project,
        attempt=run.attempt,
        params=json.loads(run.params),
        token=token,
        lease_until=from_us(run.lease_until),
        resume=None if run.resume is None else json.loads(run.resume),
    )


def checked_description(text: str) -> str:
    """What a queue is for. Raises ValidationError."""
    if len(text) > limits.REASON_CHARS:
        raise ValidationError(
            f"a description has at most {limits.REASON_CHARS} characters", field="description"
        )
    return clean(text)


def checked_visibility(visibility: timedelta | float) -> int:
    """How long a claimer has a run to itself, in microseconds. Raises ValidationError."""
    seconds = visibility.total_seconds() if isinstance(visibility, timedelta) else visibility
    if not limits.VISIBILITY_MIN <= seconds <= limits.VISIBILITY_MAX:
        raise ValidationError(
            f"a visibility lies between {limits.VISIBILITY_MIN:.0f} s and {limits.VISIBILITY_MAX / 3_600:.0f} h",
            field="visibility",
        )
    return int(seconds * 1_000_000)


def checked_wait(wait: timedelta) -> timedelta:
    """A wait before the next attempt. Raises ValidationError."""
    if not 0 <= wait.total_seconds() <= limits.DELAY_MAX:
        raise ValidationError(f"a wait is at most {limits.DELAY_MAX // 86_400} days", field="after")
    return wait
