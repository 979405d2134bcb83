"""The context of a handler that runs in a child process: what it does happens in the worker, by message."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pydantic_core import to_jsonable_python

from jobdeck.context import CancelReason, Context, RunLog
from jobdeck.durations import parse_duration
from jobdeck.jsonio import check, dumps
from jobdeck.limits import CHECKPOINT_BYTES, LOG_LINE_BYTES, PARAMS_BYTES
from jobdeck.outcome import Cancelled
from jobdeck.process.parent_link import ParentLink
from jobdeck.process.wire import capped, pack_options
from jobdeck.secret import masked, redact, withheld
from jobdeck.text import cut_bytes

if TYPE_CHECKING:
    from jobdeck.net import GuardedClient


class ChildRunLog(RunLog):
    """Sends every entry to the worker, secrets masked."""

    def __init__(self, link: ParentLink) -> None:
        self._link = link

    def write(self, level: str, message: str, fields: Mapping[str, Any]) -> None:
        text = cut_bytes(redact(str(message)), LOG_LINE_BYTES)
        self._link.send({"op": "log", "level": level, "message": text, "fields": capped(fields)})


class ChildContext(Context):
    """One attempt, seen from its process; `facts` is what the worker's `start` message says of the run."""

    def __init__(self, link: ParentLink, facts: Mapping[str, Any]) -> None:
        self._link = link
        self._http: GuardedClient | None = None
        self.run_id = UUID(facts["run_id"])
        self.team = facts["team"]
        self.project = facts["project"]
        self.job_type = facts["job_type"]
        self.attempt = facts["attempt"]
        self.fence = facts["fence"]
        self._token: str = facts["token"]
        self.resume = facts["resume"]
        self.settings = facts["settings"]
        self.log = ChildRunLog(link)

    @property
    def token(self) -> str:
        return self._token

    @property
    def http(self) -> GuardedClient:
        if self._http is None:
            from jobdeck.net import AddressPolicy, GuardedClient

            self._http = GuardedClient(AddressPolicy(self.settings.get("http_allow", ())))
        return self._http

    async def aclose(self) -> None:
        """Close the HTTP client, if one was used."""
        if self._http is not None:
            await self._http.aclose()

    @property
    def cancelled(self) -> bool:
        return self._link.stop.reason is not None

    @property
    def cancel_reason(self) -> CancelReason | None:
        return self._link.stop.reason

    def raise_if_cancelled(self) -> None:
        if self._link.stop.reason is not None:
            raise Cancelled(f"asked to stop: {self._link.stop.reason}")

    def progress(
        self,
        processed: int | None = None,
        *,
        total: int | None = None,
        failed: int | None = None,
        skipped: int | None = None,
        message: str | None = None,
    ) -> None:
        numbers = {"processed": processed, "total": total, "failed": failed, "skipped": skipped}
        text = None if message is None else cut_bytes(redact(message), LOG_LINE_BYTES)
        self._link.send({"op": "progress", "message": text} | numbers)

    def trace(self, **seconds: float) -> None:
        self._link.send({"op": "trace", "seconds": capped(seconds)})

    async def sleep(self, seconds: float | timedelta | str) -> None:
        await self._link.stop.wait(parse_duration(seconds).total_seconds())
        self.raise_if_cancelled()

    def sleep_sync(self, seconds: float | timedelta | str) -> None:
        self._link.stop.wait_sync(parse_duration(seconds).total_seconds())
        self.raise_if_cancelled()

    async def checkpoint(self, state: Any) -> None:
        await self._call("checkpoint", _checkpoint_arguments(state))

    def checkpoint_sync(self, state: Any) -> None:
        self._link.call("checkpoint", _checkpoint_arguments(state)).result()

    async def verify_lease(self) -> None:
        await self._call("verify_lease", {})

    async def enqueue(self, job_type: str, params: Mapping[str, Any] | None = None, **options: Any) -> UUID:
        return UUID(await self._call("enqueue", _enqueue_arguments(job_type, params, options)))

    def enqueue_sync(self, job_type: str, params: Mapping[str, Any] | None = None, **options: Any) -> UUID:
        return UUID(self._link.call("enqueue", _enqueue_arguments(job_type, params, options)).result())

    async def _call(self, method: str, arguments: Mapping[str, Any]) -> Any:
        return await asyncio.wrap_future(self._link.call(method, arguments))


def _checkpoint_arguments(state: Any) -> dict[str, Any]:
    plain = masked(to_jsonable_python(state), by_name=False)
    dumps(plain, what="checkpoint", limit=CHECKPOINT_BYTES)
    return {"state": plain}


def _enqueue_arguments(
    job_type: str, params: Mapping[str, Any] | None, options: Mapping[str, Any]
) -> dict[str, Any]:
    # Checked here, because on its way what JSON cannot hold would silently become text.
    given = withheld(params, what="params")
    if given is not None:
        dumps(given, what="params", limit=PARAMS_BYTES)
    packed = pack_options(withheld(options, what="options"))
    check(packed, what="options")
    return {"job_type": job_type, "params": given, "options": packed}
