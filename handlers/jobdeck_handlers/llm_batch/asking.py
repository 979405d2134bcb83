"""One row from prompt to answer, through whatever trouble the endpoint makes."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

from jobdeck import Backoff, Context, Retry, Snooze
from jobdeck_handlers.answers import spread
from jobdeck_handlers.llm_batch.answer import Answer
from jobdeck_handlers.llm_batch.endpoint import Endpoint, Trouble
from jobdeck_handlers.llm_batch.params import BatchParams
from jobdeck_handlers.llm_batch.table_input import PROMPT_BYTES, InputRow
from jobdeck_handlers.llm_batch.template import fill

WAIT_SECONDS: Final = 300.0
"""How long one row waits in all for an endpoint that asks to be spared; a longer wait gives the slot back."""
LINES_LOGGED: Final = 50
"""Most lines about trouble in one attempt; the failures themselves are in the table."""
_BACKOFF: Final = Backoff(base=1.0, factor=2.0, cap=30.0)
# Of an attempt, where the endpoint does not say for how long it is to be spared.
_PAUSE: Final = 60.0


class TooBusy(Exception):
    """The endpoint asks to be spared for longer than a slot waits."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble.reason)
        self.trouble = trouble

    def outcome(self, *, moved: bool) -> Retry | Snooze:
        """Later; without counting as a failure where the attempt has `moved` something, so that it is not for ever."""
        wait = self.trouble.retry_after
        if moved:
            return Snooze(spread(_PAUSE if wait is None else wait), str(self))
        return Retry(str(self), after=None if wait is None else spread(wait))


class Notes:
    """Lines of the log about trouble, as many as are of use to somebody."""

    def __init__(self, ctx: Context) -> None:
        self._log = ctx.log
        self._left = LINES_LOGGED

    def warn(self, message: str, **fields: object) -> None:
        self._left -= 1
        if self._left >= 0:
            self._log.warn(message, **fields)
        if self._left == 0:
            self._log.warn("further troubles of this attempt are not logged")


@dataclass(slots=True)
class _Patience:
    """How much trouble one row has met so far."""

    retries: int
    failures: int = 0
    troubles: int = 0
    waited: float = 0.0

    def delay(self, trouble: Trouble) -> float | None:
        """Seconds until the next try; None where there is none."""
        self.troubles += 1
        self.failures += not trouble.busy
        delay = _BACKOFF.delay(self.troubles, random.Random())
        if trouble.retry_after is not None:
            delay = max(delay, spread(trouble.retry_after))
        if self.failures > self.retries or (trouble.busy and self.waited + delay > WAIT_SECONDS):
            return None
        self.waited += delay
        return delay


class Asker:
    """Asks about one row at a time, any number of them beside each other."""

    def __init__(self, ctx: Context, params: BatchParams, notes: Notes) -> None:
        self._ctx = ctx
        self._params = params
        self._notes = notes
        self._endpoint = Endpoint(ctx, params)

    async def ask(self, row: InputRow) -> Answer:
        """The answer or failure of the row. Raises NoTurn, TooBusy, Discard, Cancelled."""
        prompt = fill(self._params.prompt, row.values)
        if len(prompt.encode()) > PROMPT_BYTES:
            return Answer(row.key, error=f"the prompt has more than {PROMPT_BYTES:,} bytes")
        patience = _Patience(self._params.retries)
        while True:
            try:
                return await self._endpoint.ask(row.key, prompt)
            except Trouble as trouble:
                delay = patience.delay(trouble)
                if delay is None:
                    if trouble.busy:
                        raise TooBusy(trouble) from None
                    return Answer(row.key, error=trouble.reason, doubtful=True)
                self._notes.warn(
                    "waiting for the endpoint",
                    reason=trouble.reason,
                    seconds=round(delay, 1),
                    key=str(row.key)[:60],
                )
            await self._ctx.sleep(delay)
