"""The rows that have no answer yet, in the order of their key, a few in memory at a time."""

from __future__ import annotations

from collections import deque
from typing import Final

from jobdeck import Context
from jobdeck_handlers.llm_batch.answer import Key
from jobdeck_handlers.llm_batch.output import Output
from jobdeck_handlers.llm_batch.table_input import InputRow, TableInput
from jobdeck_handlers.llm_batch.tally import Tally

# Keys are small and most may be answered already; far below the 32,766 parameters of both databases.
_KEYS: Final = 500
# Rows are as large as prompts may be.
_ROWS: Final = 32


class Unanswered:
    """Reads ahead by keys, and by whole rows only as far as they are to be asked about soon."""

    def __init__(self, ctx: Context, source: TableInput, output: Output, tally: Tally) -> None:
        self._ctx = ctx
        self._source = source
        self._output = output
        self._tally = tally
        self._last: Key | None = None
        self._keys: deque[Key] = deque()
        self._rows: deque[InputRow] = deque()

    async def next(self) -> InputRow | None:
        """The next row; None where there are no more."""
        while not self._rows:
            if not self._keys and not await self._read_keys():
                return None
            chosen = [self._keys.popleft() for _ in range(min(_ROWS, len(self._keys)))]
            self._rows.extend(await self._source.rows(chosen))
        return self._rows.popleft()

    def put_back(self, row: InputRow) -> None:
        """Let this one be the next."""
        self._rows.appendleft(row)

    async def _read_keys(self) -> bool:
        while not self._keys:
            self._ctx.raise_if_cancelled()
            page = await self._source.keys(self._last, _KEYS)
            if not page:
                return False
            self._last = page[-1]
            done = await self._output.done(page)
            self._tally.skipped += len(done.before)
            answered = done.before | done.by_this_run
            self._keys.extend(key for key in page if key not in answered)
        return True
