"""Webhooks: a signed POST by the guarded client, to a URL that somebody has written down."""

from __future__ import annotations

from typing import Final

from jobdeck import limits
from jobdeck.clock import Clock, SystemClock
from jobdeck.delivery.sender import Letter, Sent, Unsent
from jobdeck.delivery.signature import signed_headers
from jobdeck.errors import ValidationError
from jobdeck.net import BadResponse, GuardedClient, HostBusy, HttpError, HttpResponse
from jobdeck.text import clean

_GONE: Final = 410
_ANSWER_BYTES: Final = 4 * limits.KIB
_LINE_CHARS: Final = 200


class WebhookSender:
    """Answers of 2xx alone mean that it has arrived; a redirect is not followed."""

    def __init__(self, http: GuardedClient, clock: Clock | None = None) -> None:
        """`http` must be one that `signs`."""
        self._http = http
        self._clock = clock or SystemClock()

    async def send(self, letter: Letter) -> Sent:
        body = letter.body.encode()
        now = self._clock.wall_us() // 1_000_000
        headers = {"Content-Type": "application/json"}
        headers |= signed_headers(letter.secrets, letter.message_id, now, body)
        try:
            response = await self._http.request(
                "POST",
                letter.endpoint,
                headers=headers,
                content=body,
                deadline=limits.DELIVERY_DEADLINE,
                max_bytes=_ANSWER_BYTES,
                on_overflow="truncate",
                patience=0,
            )
        except HostBusy as error:
            raise Unsent(str(error), after=error.retry_after) from error
        except ValidationError as error:
            # The URL, or where it leads: the same at every try.
            raise Unsent(str(error), again=False) from error
        except HttpError as error:
            raise Unsent(str(error)) from error
        return _judged(response)

    async def aclose(self) -> None:
        await self._http.aclose()


def _judged(response: HttpResponse) -> Sent:
    code = response.status
    if response.ok:
        return Sent(code)
    words = f"it answered {code}"
    if line := _first_line(response):
        words += f": {line}"
    raise Unsent(words, code=code, after=response.retry_after, gone=code == _GONE)


def _first_line(response: HttpResponse) -> str:
    """What may help whoever looks at the failure; nothing else of an answer is kept."""
    try:
        lines = response.text().strip().splitlines()
    except BadResponse:
        return ""
    return clean(lines[0].strip(), _LINE_CHARS) if lines else ""
