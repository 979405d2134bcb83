"""Asks for one URL: politely, patiently for a bounded time, and without following redirects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import urlsplit

from jobdeck import Context, HostBusy, HttpError, HttpResponse, Retry, ValidationError
from jobdeck_handlers.answers import TURN_SECONDS, may_pass, spread, step_aside

TRIES: Final = 3
"""How often one URL is asked for when its host fails (5xx, 429, no connection)."""
WAIT_SECONDS: Final = 300.0
"""How long one URL is waited for in all; a longer wait gives the slot back and comes as a later attempt."""
_BACKOFF: Final = 1.0
TIMED_OUT: Final = "deadline_exceeded"
TOO_LARGE: Final = "response_too_large"
# What a second try may mend. One that took its whole time is not asked again: it would hold up the others.
_PASSING: Final = frozenset({"connect_failed", "bad_response"})


@dataclass(slots=True)
class _Patience:
    tries: int = 0
    waited: float = 0.0

    def has_time_for(self, delay: float) -> bool:
        self.waited += delay
        return self.waited <= WAIT_SECONDS


@dataclass(frozen=True, slots=True)
class Fetcher:
    """How a run asks: `timeout` is seconds for one answer."""

    ctx: Context
    user_agent: str
    timeout: float

    async def get(
        self, url: str, *, max_bytes: int, on_overflow: Literal["error", "truncate"] = "truncate"
    ) -> HttpResponse:
        """The answer, whatever its status. Raises HttpError where there is none.

        Raises Retry or Snooze where the host asks for more patience than a slot has.
        """
        patience = _Patience()
        while True:
            try:
                response = await self.ctx.http.request(
                    "GET",
                    url,
                    headers={"User-Agent": self.user_agent},
                    deadline=self.timeout,
                    max_bytes=max_bytes,
                    on_overflow=on_overflow,
                    patience=TURN_SECONDS,
                )
                delay = self._after_answer(url, response, patience)
                if delay is None:
                    return response
            except HttpError as error:
                delay = self._after_error(error, patience)
            await self.ctx.sleep(delay)

    def _after_answer(self, url: str, response: HttpResponse, patience: _Patience) -> float | None:
        """Seconds until it is worth asking again; None for an answer that stands."""
        patience.tries += 1
        if not may_pass(response.status) or patience.tries >= TRIES:
            return None
        delay = max(response.retry_after or 0.0, _BACKOFF * patience.tries)
        if not patience.has_time_for(delay):
            raise Retry(
                f"{urlsplit(url).hostname} answered {response.status} and asks to be left alone for {delay:.0f} s",
                after=spread(delay),
            )
        return delay

    def _after_error(self, error: HttpError, patience: _Patience) -> float:
        if isinstance(error, HostBusy):
            delay = error.retry_after
            if delay is None:
                patience.waited += TURN_SECONDS
                delay = _BACKOFF
            if not patience.has_time_for(delay):
                raise step_aside(error, self.ctx.attempt) from None
            return delay
        patience.tries += 1
        if isinstance(error, ValidationError) or error.code not in _PASSING or patience.tries >= TRIES:
            raise error
        return _BACKOFF * patience.tries
