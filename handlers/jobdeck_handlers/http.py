"""`http`: one request to one URL; a 2xx answer completes the run, and after 202 the other side ends it later."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, Field

from jobdeck import (
    Context,
    Discard,
    Duration,
    HostBusy,
    HttpError,
    HttpResponse,
    Park,
    Retry,
    ValidationError,
    handler,
    limits,
)
from jobdeck_handlers.answers import TURN_SECONDS, describe, may_pass, spread, step_aside
from jobdeck_handlers.headers import Headers, reveal

PAYLOAD_BYTES: Final = limits.PARAMS_BYTES
"""Largest payload, as compact UTF-8 JSON (spec.md B4)."""
BODY_BYTES: Final = 64 * 1024
"""How much of the answer's body is read and stored (reliability.md S4)."""
TIMEOUT: Final = timedelta(seconds=30)
"""Default and longest time for one exchange (spec.md B9)."""
PARK_MAX: Final = timedelta(days=7)
"""Longest time that the other side has after its 202."""
_ACCEPTED: Final = 202
# What of a refused answer's body goes to the log; the cap of a log line is 8 KiB with all its fields.
_LOGGED_CHARS: Final = 2_000
# PostgreSQL stores no NUL. The others would be six bytes each in JSON, so that 64 KiB of them would not fit into
# the 256 KiB of a result; this way each byte of the body becomes three bytes at most.
_CONTROLS: Final = {code: "\ufffd" for code in range(0x20) if chr(code) not in "\t\n\r"}


def _not_too_large(payload: Any) -> Any:
    size = len(json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode(errors="replace"))
    if size > PAYLOAD_BYTES:
        raise ValueError(f"has {size:,} bytes of JSON; at most {PAYLOAD_BYTES:,} are allowed")
    return payload


# What stands behind a reference is checked once it is known.
Url = Annotated[str, Field(max_length=8_192, pattern=r"^(https?://|secret://[A-Za-z][A-Za-z0-9_]{0,63}$)")]


class HttpParams(BaseModel, extra="forbid"):
    """Params of `http`."""

    url: Url = Field(description="Where to send the request; the URL of a webhook may be secret://NAME.")
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = Field("POST", description="HTTP method.")
    headers: Headers = Field(
        {}, description="Request headers; a value secret://NAME is looked up where the worker runs."
    )
    payload: Annotated[Any, AfterValidator(_not_too_large)] = Field(
        None, description="JSON to send as the body, at most 256 KiB; null sends none."
    )
    # The default is written as people write it: this is how forms get to know it, from the JSON schema.
    timeout: Duration = Field(
        "30s",
        gt=timedelta(0),
        le=TIMEOUT,
        validate_default=True,
        description="Longest time for the whole exchange, at most 30s.",
    )
    park_for: Duration = Field(
        "1h",
        le=PARK_MAX,
        validate_default=True,
        description="How long the other side has to end the run after it has answered 202, at most 7d; 0s: 202 is "
        "an answer like any other 2xx, and no token is sent.",
    )
    fallback_url: Url | None = Field(
        None, description="Tried once, in the same way, when the first URL fails."
    )


class Failure(Exception):
    """One URL did not answer with 2xx; `busy` where it was not even asked."""

    def __init__(
        self, reason: str, *, may_pass: bool, retry_after: float | None = None, busy: HostBusy | None = None
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.may_pass = may_pass
        self.retry_after = retry_after
        self.busy = busy


@handler("http", title="HTTP request", category="http")
async def http(ctx: Context, params: HttpParams) -> dict[str, Any]:
    """Send one HTTP request; 2xx completes the run, and the answer and its timing are the result.

    202 parks the run: whoever answered so ends it, by the run and the token of the headers `Jobdeck-Run` and
    `Jobdeck-Token`, with `jobdeck runs finish RUN completed --token TOKEN`.

    408, 425, 429, 5xx and failed connections are tried again by the run's retry rule; other answers end it. Where the
    worker has as many requests to the host under way as it may, the run comes back later without burning an attempt.
    """
    headers = reveal(params.headers) | _handed_over(ctx, params)
    try:
        return await _send(ctx, params, params.url, headers, fallback=False)
    except Failure as failure:
        if params.fallback_url is None:
            raise _verdict(ctx, failure) from None
        first = failure
    ctx.log.warn("trying the fallback URL", reason=first.reason)
    try:
        return await _send(ctx, params, params.fallback_url, headers, fallback=True)
    except Failure as second:
        reason = f"{first.reason}; then the fallback: {second.reason}"
        passing = first.may_pass or second.may_pass
        both = Failure(
            reason, may_pass=passing, retry_after=first.retry_after, busy=first.busy and second.busy
        )
        raise _verdict(ctx, both) from None


def _handed_over(ctx: Context, params: HttpParams) -> dict[str, str]:
    """What the other side has to know to end the run later."""
    if not params.park_for:
        return {}
    return {"Jobdeck-Run": str(ctx.run_id), "Jobdeck-Token": ctx.token}


async def _send(
    ctx: Context, params: HttpParams, url: str, headers: dict[str, str], *, fallback: bool
) -> dict[str, Any]:
    ctx.raise_if_cancelled()
    try:
        response = await ctx.http.request(
            params.method,
            url,
            headers=headers,
            json=params.payload,
            deadline=params.timeout.total_seconds(),
            max_bytes=BODY_BYTES,
            on_overflow="truncate",
            patience=TURN_SECONDS,
        )
    except HostBusy as error:
        raise Failure(str(error), may_pass=True, retry_after=error.retry_after, busy=error) from None
    except HttpError as error:
        # What breaks a rule before anything is sent is a ValidationError too; it will break it every time.
        raise Failure(str(error), may_pass=not isinstance(error, ValidationError)) from None
    timing = response.timing
    ctx.trace(
        connect=timing.connect_ms / 1000, ttfb=timing.ttfb_ms / 1000, transfer=timing.transfer_ms / 1000
    )
    answer = _stored(response) | {"fallback": fallback}
    if not response.ok:
        ctx.log.warn("refused", **answer | {"response_body": answer["response_body"][:_LOGGED_CHARS]})
        reason = f"{urlsplit(url).hostname} {describe(response)}"
        raise Failure(reason, may_pass=may_pass(response.status), retry_after=response.retry_after)
    ctx.log.info("answered", response_code=response.status, total_ms=response.timing.total_ms)
    if response.status == _ACCEPTED and params.park_for:
        raise Park(params.park_for, f"{urlsplit(url).hostname} answered 202 and ends the run later")
    return answer


def _stored(response: HttpResponse) -> dict[str, Any]:
    # Decoded here and not by `text()`, which refuses a compressed body: the answer of a server that compresses
    # unasked is still an answer.
    body = response.body.decode(errors="replace").translate(_CONTROLS)
    timing = response.timing
    return {
        "response_code": response.status,
        "response_body": body,
        "truncated": response.truncated,
        "connect_ms": timing.connect_ms,
        "ttfb_ms": timing.ttfb_ms,
        "transfer_ms": timing.transfer_ms,
        "total_ms": timing.total_ms,
        "url": response.url,
    }


def _verdict(ctx: Context, failure: Failure) -> Exception:
    if failure.busy is not None:
        return step_aside(failure.busy, ctx.attempt)
    if not failure.may_pass:
        return Discard(failure.reason)
    return Retry(failure.reason, after=None if failure.retry_after is None else spread(failure.retry_after))
