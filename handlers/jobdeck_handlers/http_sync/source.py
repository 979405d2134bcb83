"""Pages from the source: asks politely, waits where it is told to, gives up where asking again is of no use."""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from jobdeck import Context, Discard, HostBusy, HttpError, HttpResponse, Retry, ValidationError
from jobdeck_handlers.answers import TURN_SECONDS, describe, may_pass, spread, step_aside
from jobdeck_handlers.headers import reveal
from jobdeck_handlers.http_sync import paging
from jobdeck_handlers.http_sync.paging import Position
from jobdeck_handlers.http_sync.params import NoPages, SyncParams
from jobdeck_handlers.http_sync.records import Mark, records_in, total_in

PAGE_BYTES: Final = 16 * 1024 * 1024
"""Largest answer that is read."""
PAGE_SECONDS: Final = 60.0
"""Longest time for one answer."""
WAIT_SECONDS: Final = 300.0
"""How long one page is waited for in all; a longer wait gives the slot back and comes as a later attempt."""
TRIES: Final = 4
"""How often one page is asked for when the source fails (5xx, no connection)."""

_BACKOFF_FIRST: Final = 0.5
_BACKOFF_MAX: Final = 30.0
# Answers that say "not now" and not "something broke": they are waited out instead of counted.
_BUSY: Final = frozenset({429, 503})


@dataclass(frozen=True, slots=True)
class Page:
    """One page of records."""

    position: Position
    records: list[Any]
    following: Position
    """Position of the next page; None where this was the last."""
    total: int | None
    """How many records the source says there are, if it does."""


@dataclass(frozen=True, slots=True)
class _Trouble:
    reason: str
    busy: bool = False
    retry_after: float | None = None


@dataclass(slots=True)
class _Patience:
    """How much trouble one page has made so far."""

    tries: int = 0
    waited: float = 0.0

    def delay(self, trouble: _Trouble) -> float:
        """Seconds to wait before the next try. Raises Retry where it is better to come back later."""
        self.tries += 1
        backoff = min(_BACKOFF_FIRST * 2.0 ** (self.tries - 1), _BACKOFF_MAX)
        delay = max(trouble.retry_after or 0.0, backoff)
        if self.waited + delay > WAIT_SECONDS or (self.tries >= TRIES and not trouble.busy):
            after = None if trouble.retry_after is None else spread(trouble.retry_after)
            raise Retry(trouble.reason, after=after)
        # Up to a tenth more, so that many workers that were turned away together do not come back together.
        delay += random.uniform(0, delay / 10)
        self.waited += delay
        return delay


@dataclass(slots=True)
class Source:
    """The source of one run. `since` is the mark from which it asks for records, if any."""

    ctx: Context
    params: SyncParams
    since: Mark | None
    _headers: dict[str, str] = field(init=False)
    _seen: set[Position] = field(init=False, default_factory=set)
    _last: bytes = field(init=False, default=b"")

    def __post_init__(self) -> None:
        self._headers = {"Accept": "application/json"} | reveal(self.params.headers)

    async def page(self, position: Position, seen: int) -> Page:
        """The page at `position`; `seen` is how many records came before it.

        Raises Discard where the source cannot be used as the params say, Retry where it may be later.
        """
        self._seen.add(position)
        response = await self._answer(paging.request(self.params, position, self.since))
        body = self._json(response)
        records = records_in(body, self.params.records)
        total = total_in(body, response.headers, self.params.total) if self.params.total else None
        answer = paging.Answer(
            url=response.url,
            body=body,
            link=response.headers.get("link", ""),
            records=len(records),
            left=total is None or seen + len(records) < total,
        )
        following = paging.following(self.params, position, answer)
        self._refuse_circle(records, following)
        return Page(position, records, following, total)

    async def _answer(self, request: paging.Request) -> HttpResponse:
        patience = _Patience()
        while True:
            outcome = await self._ask(request)
            if isinstance(outcome, HttpResponse):
                return outcome
            delay = patience.delay(outcome)
            self.ctx.log.warn("waiting for the source", reason=outcome.reason, seconds=round(delay, 1))
            await self.ctx.sleep(delay)

    async def _ask(self, request: paging.Request) -> HttpResponse | _Trouble:
        try:
            response = await self.ctx.http.request(
                "GET",
                request.url,
                headers=self._headers,
                params=request.query,
                deadline=PAGE_SECONDS,
                max_bytes=PAGE_BYTES,
                on_overflow="truncate",
                patience=TURN_SECONDS,
            )
        except HostBusy as error:
            # What is synced so far is kept: the run goes on from there.
            raise step_aside(error, self.ctx.attempt) from None
        except HttpError as error:
            # What breaks a rule before anything is sent is a ValidationError too; it will break it every time.
            if isinstance(error, ValidationError):
                raise Discard(str(error)) from None
            return _Trouble(str(error))
        if response.ok:
            return response
        # The path and query stay out of messages: they may hold what is not for everybody's eyes.
        reason = f"{urlsplit(self.params.url).hostname} {describe(response)}"
        if not may_pass(response.status):
            raise Discard(reason)
        return _Trouble(reason, response.status in _BUSY, response.retry_after)

    def _json(self, response: HttpResponse) -> Any:
        if response.status == 204:
            return []
        if response.truncated:
            raise Discard(f"an answer has more than {PAGE_BYTES:,} bytes; ask the source for smaller pages")
        try:
            return response.json()
        except HttpError as error:
            # A gateway's page in HTML is the usual reason, and that may pass.
            raise Retry(f"{urlsplit(self.params.url).hostname}: {error}") from None

    def _refuse_circle(self, records: list[Any], following: Position) -> None:
        """Raise Discard for a source that would be read for ever."""
        if following is None:
            return
        if following in self._seen:
            raise Discard(
                f"the source goes in circles: it names the same next page twice ({str(following)[:60]})"
            )
        digest = hashlib.sha256(json.dumps(records, sort_keys=True).encode()).digest() if records else b""
        if records and digest == self._last and not isinstance(self.params.pagination, NoPages):
            raise Discard("the source gave the same page twice; does it know the parameters of `pagination`?")
        self._last = digest
