"""One request to the endpoint, and what its answer means: an answer, a failure of the row, trouble, or the end."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlsplit

from jobdeck import Context, Discard, HostBusy, HttpError, HttpResponse, ValidationError
from jobdeck_handlers.answers import TURN_SECONDS, may_pass
from jobdeck_handlers.llm_batch.answer import Answer, Key, misfit_of, read
from jobdeck_handlers.llm_batch.params import BatchParams

ANSWER_BYTES: Final = 2 * 1024 * 1024
"""Largest body that is read: some 500,000 tokens, more than models give in one answer."""
# Answers that say "not now" and not "something broke".
_BUSY: Final = frozenset({429, 503})
# Of the address, the key, the account or the model: every other row would get the same.
_OF_ALL: Final = frozenset({301, 302, 303, 307, 308, 401, 402, 404, 405})
_SNIPPET: Final = 200
_MASK: Final = "********"
# Shorter keys are words that stand in other places too.
_KEY_MIN: Final = 4
_NO_TEXT: Final = re.compile("[\x00\ud800-\udfff]")


class Trouble(Exception):
    """No answer, and the same request may get one later; `busy` where the endpoint asks to be spared."""

    def __init__(self, reason: str, *, busy: bool = False, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.busy = busy
        self.retry_after = retry_after


class NoTurn(Exception):
    """All the places at the host are taken by requests of this worker."""

    def __init__(self, busy: HostBusy) -> None:
        super().__init__(str(busy))
        self.busy = busy


class Endpoint:
    """The endpoint of one run. Raises Discard where no request could be sent to it."""

    def __init__(self, ctx: Context, params: BatchParams) -> None:
        self._ctx = ctx
        self._params = params
        self._url = f"{params.base_url.rstrip('/')}/chat/completions"
        self._host = urlsplit(params.base_url).hostname
        self._misfit = misfit_of(params.response_format)
        self._key = _revealed(params)
        self._headers = {"Accept": "application/json"}
        if self._key:
            self._headers["Authorization"] = f"Bearer {self._key}"
        try:
            ctx.http.check(self._url, headers=self._headers)
        except HttpError as error:
            raise Discard(self._clean(str(error))) from None

    async def ask(self, key: Key, prompt: str) -> Answer:
        """The answer, or the failure, of one row. Raises Trouble, NoTurn, and Discard for what ends the run."""
        response = await self._send(prompt)
        if not response.ok:
            return Answer(key, error=self._refusal(response))
        if response.truncated:
            # It is paid for; asked again it would be as long.
            return Answer(key, error=f"the answer has more than {ANSWER_BYTES:,} bytes")
        try:
            body = self._cleaned(response.json())
        except HttpError as error:
            # A gateway's page in HTML is the usual reason, and that may pass.
            raise Trouble(f"{self._host}: {error}") from None
        answer = read(key, body, self._misfit)
        problem = answer.error and self._clean(answer.error)
        return replace(answer, error=problem, model=answer.model or self._params.model)

    async def _send(self, prompt: str) -> HttpResponse:
        try:
            return await self._ctx.http.request(
                "POST",
                self._url,
                headers=self._headers,
                json=self._body(prompt),
                deadline=self._params.timeout.total_seconds(),
                max_bytes=ANSWER_BYTES,
                on_overflow="truncate",
                patience=TURN_SECONDS,
            )
        except HostBusy as error:
            if error.retry_after is None:
                raise NoTurn(error) from None
            raise Trouble(str(error), busy=True, retry_after=error.retry_after) from None
        except HttpError as error:
            # What breaks a rule before anything is sent is a ValidationError too; it will break it every time.
            if isinstance(error, ValidationError):
                raise Discard(self._clean(str(error))) from None
            raise Trouble(str(error)) from None

    def _body(self, prompt: str) -> Mapping[str, Any]:
        params = self._params
        messages = [{"role": "system", "content": params.system}] if params.system else []
        options = {
            "temperature": params.temperature,
            "max_tokens": params.max_tokens,
            "response_format": params.response_format
            and params.response_format.model_dump(by_alias=True, exclude_none=True),
        }
        given = {name: value for name, value in options.items() if value is not None}
        return {"model": params.model, "messages": [*messages, {"role": "user", "content": prompt}], **given}

    def _refusal(self, response: HttpResponse) -> str:
        """Why this row alone was refused. Raises Trouble or Discard where it is not about the row."""
        # Cleaned before it is cut: half a key would pass.
        body = self._clean(" ".join(response.body.decode(errors="replace").split()))
        body = body[:_SNIPPET] + ("…" if len(body) > _SNIPPET else "")
        reason = f"{self._host} answered {response.status}" + (f": {body}" if body else "")
        if may_pass(response.status):
            raise Trouble(reason, busy=response.status in _BUSY, retry_after=response.retry_after)
        if response.status in _OF_ALL:
            raise Discard(reason)
        return reason

    def _cleaned(self, body: Any) -> Any:
        if isinstance(body, str):
            return self._clean(body)
        if isinstance(body, dict):
            return {name: self._cleaned(value) for name, value in body.items()}
        return [self._cleaned(each) for each in body] if isinstance(body, list) else body

    def _clean(self, text: str) -> str:
        """Text of the endpoint as it may be stored: no NUL, no half characters, and not the key sent back."""
        if self._key and len(self._key) >= _KEY_MIN:
            for form in (self._key, json.dumps(self._key)[1:-1]):
                text = text.replace(form, _MASK)
        return _NO_TEXT.sub("\ufffd", text)


def _revealed(params: BatchParams) -> str | None:
    try:
        return None if params.api_key is None else params.api_key.reveal().strip()
    except LookupError as error:
        raise Discard(str(error.args[0])) from None
