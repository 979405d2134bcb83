"""The loop of `llm_batch`: keeps requests under way, and stores whatever has come before it sends more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from jobdeck import Cancelled, Context, Discard, Retry, Snooze
from jobdeck_handlers.answers import step_aside
from jobdeck_handlers.databases.destination import destination
from jobdeck_handlers.databases.target import Target, open_target
from jobdeck_handlers.llm_batch.answer import ERROR_CHARS, Answer
from jobdeck_handlers.llm_batch.asking import Asker, Notes, TooBusy
from jobdeck_handlers.llm_batch.endpoint import NoTurn
from jobdeck_handlers.llm_batch.file_input import staged_file
from jobdeck_handlers.llm_batch.output import Output
from jobdeck_handlers.llm_batch.params import BatchParams
from jobdeck_handlers.llm_batch.table_input import InputRow, TableInput
from jobdeck_handlers.llm_batch.tally import BatchResult, Tally
from jobdeck_handlers.llm_batch.unanswered import Unanswered

LOOK_SECONDS: Final = 0.25
"""Longest time without a look for a cancel."""
# How long requests under way may go on once no more are sent: they are paid for.
_LAST_CALL_SECONDS: Final = 30.0
LAST_CALL_CANCELLED: Final = 0.5
# Before answers that the target did not take are given up: they are paid for, too.
_STORE_PAUSES: Final = (1.0, 5.0, 20.0)
# So many rows one after the other without any answer are the endpoint's fault and not theirs.
_DOUBTS: Final = 4


async def run_batch(ctx: Context, params: BatchParams) -> BatchResult:
    """Ask about all rows that have no answer yet."""
    notes = Notes(ctx)
    asker = Asker(ctx, params, notes)
    async with AsyncExitStack() as stack:
        target = await stack.enter_async_context(
            open_target(destination(params.target, ctx.settings), "llm_batch")
        )
        store = target
        if params.target is not None and params.output_in == "data_file":
            store = await stack.enter_async_context(open_target(destination(None, ctx.settings), "llm_batch"))
        source = await stack.enter_async_context(_source(ctx, params, target))
        output = Output(store, params.output, params.key, params.prompt_hash, ctx.run_id)
        survey = await source.survey()
        tally = await output.prepare(survey.key_type)
        tally.total = survey.total
        if tally.processed:
            ctx.log.info("going on where an earlier attempt stopped", rows=tally.processed)
        rows = Unanswered(ctx, source, output, tally)
        await _Batch(ctx, params, asker, notes, rows, output, tally).run()
        errors = await output.first_errors()
    if errors and not tally.answered and not tally.skipped:
        raise Discard(f"none of {tally.failed:,} rows was answered; the first: {errors[0]['error']}")
    return tally.result(params.output, errors)


@asynccontextmanager
async def _source(ctx: Context, params: BatchParams, target: Target) -> AsyncIterator[TableInput]:
    if params.file is not None:
        async with staged_file(ctx, params.file, params.key, params.columns) as source:
            yield source
    else:
        columns = {each: each for each in params.columns}
        yield TableInput(target, str(params.table), params.key, columns)


class _Batch:
    """One attempt."""

    def __init__(
        self,
        ctx: Context,
        params: BatchParams,
        asker: Asker,
        notes: Notes,
        rows: Unanswered,
        output: Output,
        tally: Tally,
    ) -> None:
        self._ctx = ctx
        self._params = params
        self._asker = asker
        self._notes = notes
        self._rows = rows
        self._output = output
        self._tally = tally
        self._places = params.concurrency
        self._asking: dict[asyncio.Task[Answer], InputRow] = {}
        self._doubtful: list[Answer] = []
        self._answering = False
        """Whether the endpoint has given this attempt any answer."""
        self._moved = False

    async def run(self) -> None:
        """Raises Discard, Retry, Snooze or Cancelled once what has come until then is stored."""
        try:
            await self._ask_all()
        except (Discard, Retry, Snooze, Cancelled):
            await self._last_call()
            raise
        finally:
            await self._drop()

    async def _ask_all(self) -> None:
        self._report()
        while True:
            self._ctx.raise_if_cancelled()
            await self._fill()
            if not self._asking:
                break
            await self._wait(LOOK_SECONDS)
        if self._doubtful and not self._answering:
            raise Retry(str(self._doubtful[0].error))
        await self._store(self._doubtful)
        self._doubtful = []
        self._report()
        if self._used_up and (left := await self._rows.next()) is not None:
            self._rows.put_back(left)
            raise Discard(self._budget_reached())

    @property
    def _used_up(self) -> bool:
        most = self._params.max_total_tokens
        return most is not None and self._tally.total_tokens >= most

    def _budget_reached(self) -> str:
        tally = self._tally
        return (
            f"stopped at the budget: {tally.total_tokens:,} of {self._params.max_total_tokens:,} tokens used, "
            f"{tally.answered:,} rows answered, {max(tally.total - tally.processed, 1):,} left; another run with a "
            "larger budget asks about those alone"
        )

    async def _fill(self) -> None:
        while len(self._asking) < self._places and not self._used_up:
            row = await self._rows.next()
            if row is None:
                break
            self._asking[asyncio.create_task(self._asker.ask(row))] = row

    async def _wait(self, seconds: float) -> None:
        """Take what comes within the time, as soon as something does."""
        done, _ = await asyncio.wait(self._asking, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        answers: list[Answer] = []
        ended: BaseException | None = None
        for task in done:
            row = self._asking.pop(task)
            try:
                answers += self._judged(task.result())
            except NoTurn as error:
                ended = self._turned_away(row, error) or ended
            except TooBusy as error:
                self._rows.put_back(row)
                ended = error
            except (Exception, Cancelled) as error:
                ended = error
        # First of all: they are paid for.
        await self._store(answers)
        if isinstance(ended, TooBusy):
            raise ended.outcome(moved=self._moved) from None
        if ended is not None:
            raise ended
        self._refuse_doubts()
        self._refuse_uncounted(answers)

    def _judged(self, answer: Answer) -> Iterable[Answer]:
        """What can be stored now: a failure that may be the endpoint's waits until another row is answered."""
        if answer.doubtful:
            self._doubtful.append(answer)
            return ()
        self._answering = True
        self._places = min(self._params.concurrency, self._places + 1)
        certain, self._doubtful = [*self._doubtful, answer], []
        return certain

    def _turned_away(self, row: InputRow, error: NoTurn) -> Snooze | None:
        """Ask for fewer at a time, or later where others have all the places at the host."""
        self._rows.put_back(row)
        self._places = max(1, len(self._asking))
        return None if self._asking else step_aside(error.busy, self._ctx.attempt)

    def _refuse_doubts(self) -> None:
        if len(self._doubtful) >= max(_DOUBTS, self._params.concurrency):
            # They stay unanswered, and are asked about again.
            raise Retry(f"{len(self._doubtful)} rows in a row: {self._doubtful[-1].error}")

    def _refuse_uncounted(self, answers: Iterable[Answer]) -> None:
        if self._params.max_total_tokens is None:
            return
        if any(each.error is None and each.usage.total is None for each in answers):
            raise Discard(
                "the endpoint does not say how many tokens it used, so max_total_tokens cannot be kept"
            )

    async def _store(self, answers: list[Answer]) -> None:
        if not answers:
            return
        for pause in (*_STORE_PAUSES, None):
            try:
                await self._output.store(answers)
                break
            except Retry as error:
                if pause is None:
                    raise
                self._notes.warn("answers wait for the target", reason=str(error), answers=len(answers))
                await self._ctx.sleep(pause)
        self._moved = True
        self._tally.add(answers)
        for each in answers:
            if each.error is not None:
                reason = each.error[:ERROR_CHARS]
                self._notes.warn("row not answered", key=str(each.key)[:60], reason=reason)
        self._report()

    def _report(self) -> None:
        tally = self._tally
        total = max(tally.total, tally.processed)
        self._ctx.progress(
            tally.processed, total=total, failed=tally.failed, skipped=tally.skipped, message=tally.message
        )

    async def _last_call(self) -> None:
        """Store what is still to come from requests under way, for a moment only where the run is cancelled."""
        end = time.monotonic() + _LAST_CALL_SECONDS
        while self._asking:
            if self._ctx.cancelled:
                end = min(end, time.monotonic() + LAST_CALL_CANCELLED)
            left = end - time.monotonic()
            if left <= 0:
                break
            try:
                await self._wait(min(left, LOOK_SECONDS))
            except (Discard, Retry, Snooze, Cancelled):
                continue

    async def _drop(self) -> None:
        for task in self._asking:
            task.cancel()
        await asyncio.gather(*self._asking, return_exceptions=True)
