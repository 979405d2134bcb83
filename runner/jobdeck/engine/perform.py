"""One attempt as a pipeline: decode the params, call the handler, classify how it ended."""

from __future__ import annotations

import asyncio
import contextvars
import json
import threading
import traceback
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from jobdeck import jsonio, limits
from jobdeck.approval import request_hash
from jobdeck.clock import to_us
from jobdeck.context import CancelReason
from jobdeck.engine.capture import current
from jobdeck.engine.run_context import RunContext
from jobdeck.engine.safe_text import safe_text
from jobdeck.errors import StaleLease, ValidationError
from jobdeck.outcome import Cancelled, Discard, Park, Retry, Snooze
from jobdeck.plugins import Plugin
from jobdeck.process.wire import ChildError
from jobdeck.pull import token_hash
from jobdeck.secret import SCHEME, SecretNotGranted, filled, lookup, masked
from jobdeck.spec import HandlerSpec
from jobdeck.states import AttemptOutcome, FailureKind
from jobdeck.store.claim import ClaimedRun
from jobdeck.verdict import Ending, Parking

_BY_REASON = {
    CancelReason.USER: AttemptOutcome.CANCELLED,
    CancelReason.TIMEOUT: AttemptOutcome.TIMED_OUT,
    CancelReason.SHUTDOWN: AttemptOutcome.INTERRUPTED,
}
_TRACEBACK_BYTES = 4 * limits.ERROR_BYTES


async def perform(plugin: Plugin, ctx: RunContext, run: ClaimedRun) -> Ending:
    """Run the handler to its end. Never raises: whatever happens becomes an ending."""
    if not _is_what_was_approved(run):
        words = "its params or its job's version are not those that were approved"
        return Ending(AttemptOutcome.ERROR, error=words, final=True, failure_kind=FailureKind.REJECTED)
    token, looking_up = current.set(ctx), lookup.set(ctx.secrets)
    try:
        params = plugin.spec.parse(await _with_secrets(run.params))
        result = await _call(plugin, ctx, params, run.params)
        return _completed(result, ctx)
    except ValidationError as error:
        # The pipeline itself validates nothing but the params.
        kind = FailureKind.INVALID_PARAMS
        return Ending(AttemptOutcome.ERROR, error=_one(error), final=True, failure_kind=kind)
    except BaseException as error:
        return _classify(error, ctx, plugin.spec)
    finally:
        current.reset(token)
        lookup.reset(looking_up)


async def _with_secrets(params_json: str) -> Any:
    """The params with the values of their references, which go through the model like any others."""
    try:
        raw = json.loads(params_json if isinstance(params_json, str) else "")
    except (ValueError, RecursionError) as error:
        raise ValidationError(f"the params of the run are no JSON: {error}") from None
    # A source may be a file or a service: nothing for the loop that all handlers share.
    return await asyncio.to_thread(filled, raw) if SCHEME in params_json else raw


def _is_what_was_approved(run: ClaimedRun) -> bool:
    # Rows are hostile: whoever may write to the database may not thereby run under another one's approval.
    if not run.rare.requires_approval:
        return True
    return run.rare.approved_hash == request_hash(run.job_type, run.rare.job_version, run.params)


async def _call(plugin: Plugin, ctx: RunContext, params: BaseModel, params_json: str) -> Any:
    spec = plugin.spec
    try:
        ctx.prepare()
        ctx.stopwatch.begin()
        if spec.isolation == "process":
            from jobdeck.process.isolated import run_isolated

            return await run_isolated(plugin.reference, ctx, params_json)
        if spec.is_async:
            return await spec(ctx, params)
        return await _in_thread(lambda: spec(ctx, params))
    except ValidationError as error:
        # One of the handler's own, or of the settings, is an ordinary failure and not one of the run's params.
        raise _HandlerError(error) from error
    finally:
        ctx.stopwatch.end()


class _HandlerError(Exception):
    """Carries a handler's exception past the pipeline's own error handling."""

    def __init__(self, inner: BaseException) -> None:
        super().__init__(str(inner))
        self.inner = inner


async def _in_thread(call: Callable[[], Any]) -> Any:
    """Run a sync handler in a daemon thread of its own, which nothing can cancel: wait until it has really ended."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()
    context = contextvars.copy_context()

    def work() -> None:
        try:
            result = context.run(call)
        except BaseException as error:
            loop.call_soon_threadsafe(_settle, future, None, error)
        else:
            loop.call_soon_threadsafe(_settle, future, result, None)

    threading.Thread(target=work, name="jobdeck-handler", daemon=True).start()
    while not future.done():
        try:
            await asyncio.shield(future)
        except asyncio.CancelledError:
            continue
        except BaseException:  # noqa: S112  raised by result() below
            continue
    return future.result()


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if error is None:
        future.set_result(result)
    elif isinstance(error, StopIteration):
        future.set_exception(RuntimeError("the handler raised StopIteration"))
    else:
        future.set_exception(error)


def _completed(result: Any, ctx: RunContext) -> Ending:
    if ctx.cancel_reason is CancelReason.TIMEOUT:
        return Ending(
            AttemptOutcome.TIMED_OUT, error="the handler went on past its timeout; its result is not taken"
        )
    if result is None:
        return Ending(AttemptOutcome.COMPLETED)
    try:
        plain = to_jsonable_python(result)
        jsonio.check(plain, what="result")
        text = jsonio.dumps(masked(plain), what="result", limit=limits.RESULT_BYTES)
    except Exception as error:
        return _unstorable(error)
    return Ending(AttemptOutcome.COMPLETED, result=text)


def _unstorable(error: Exception) -> Ending:
    # The handler has done its work: to do it again would not give a better result.
    return Ending(AttemptOutcome.ERROR, error=f"the result cannot be stored: {_one(error)}", final=True)


def _classify(error: BaseException, ctx: RunContext, spec: HandlerSpec) -> Ending:
    if isinstance(error, _HandlerError):
        error = error.inner
    if isinstance(error, Exception):
        error = spec.steer(error)
    reason = ctx.cancel_reason
    if isinstance(error, Snooze) and reason is None:
        return Ending(AttemptOutcome.SNOOZED, error=_one(error), retry_in_us=_us(error.delay))
    # A worker that stops takes a parked run from nobody: the other system has been told.
    if isinstance(error, Park) and reason in (None, CancelReason.SHUTDOWN):
        return Ending(AttemptOutcome.PARKED, error=_one(error), parking=_parking(error, ctx))
    if reason is CancelReason.TIMEOUT:
        return Ending(AttemptOutcome.TIMED_OUT, error="the attempt ran past its timeout")
    if reason is CancelReason.SHUTDOWN:
        return Ending(AttemptOutcome.INTERRUPTED, error="the worker was stopped")
    if isinstance(error, Cancelled | asyncio.CancelledError):
        if reason in _BY_REASON:
            return Ending(_BY_REASON[reason], error=None)
        return Ending(AttemptOutcome.ERROR, error="the handler cancelled itself", traceback=_trace(error))
    if isinstance(error, StaleLease):
        return Ending(AttemptOutcome.ERROR, error=_one(error))
    if isinstance(error, ValidationError) and error.field == "result":
        return _unstorable(error)
    return _failed(error)


def _parking(park: Park, ctx: RunContext) -> Parking:
    until = None if park.until is None else to_us(park.until)
    return Parking(token_hash(ctx.token), _us(park.delay), until)


def _failed(error: BaseException) -> Ending:
    if isinstance(error, ChildError):
        # It names the handler's own exception already.
        return Ending(AttemptOutcome.ERROR, error=_one(error), traceback=_trace(error))
    if isinstance(error, Discard | SecretNotGranted):
        trace = None if error.__cause__ is None else _trace(error.__cause__)
        return Ending(AttemptOutcome.ERROR, error=_one(error), traceback=trace, final=True)
    if isinstance(error, Retry):
        after = None if error.after is None else _us(error.after)
        return Ending(AttemptOutcome.ERROR, error=_one(error), traceback=_trace(error), retry_in_us=after)
    return Ending(AttemptOutcome.ERROR, error=_one(error, named=True), traceback=_trace(error))


def _one(error: BaseException, *, named: bool = False) -> str:
    try:
        text = str(error)
    except Exception:
        text = "an exception whose text cannot be made"
    if named:
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return safe_text(text, limits.ERROR_BYTES)


def _trace(error: BaseException) -> str:
    try:
        lines = traceback.format_exception(error, limit=-50)
    except Exception:
        return "the traceback cannot be made"
    return safe_text("".join(lines), _TRACEBACK_BYTES)


def _us(delay: timedelta) -> int:
    # Beyond what the columns of times can hold, an attempt could not be ended at all.
    return int(min(max(delay.total_seconds(), 0), limits.DELAY_MAX) * 1_000_000)
