"""robots.txt of every host that is asked (RFC 9309), and the pace it asks for."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from protego import Protego

from jobdeck_handlers.sitemap_check.fetch import Fetcher
from jobdeck_handlers.sitemap_check.finding import Verdict
from jobdeck_handlers.sitemap_check.redirects import Gate, Journey, Refusal, follow

ROBOTS_BYTES: Final = 500 * 1024
"""How much of a robots.txt is read (RFC 9309 2.5: at least this)."""
ROBOTS_REDIRECTS: Final = 5
"""RFC 9309 2.3.1.2."""
CRAWL_DELAY_MAX: Final = 10.0
"""Most seconds between two pages of a host that its Crawl-delay can bring about."""
# Far more than the hosts of one site; a list of pages all over the web is a stranger's choice.
_REMEMBERED: Final = 200


@dataclass(slots=True)
class _Host:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    rules: Protego | None = None
    closed: Refusal | None = None
    """Why nothing may be asked there."""
    known: bool = False
    delay: float = 0.0
    next_at: float = 0.0


class Robots:
    """The rules of all hosts of a run, each read once. `gate` says where a robots.txt may be fetched from."""

    def __init__(self, fetcher: Fetcher, gate: Gate) -> None:
        self._fetcher = fetcher
        self._gate = gate
        self._hosts: OrderedDict[str, _Host] = OrderedDict()

    async def refusal(self, url: str, origin: str) -> Refusal | None:
        """Why `url` is not to be asked for. Where it is, waits for its turn by the host's Crawl-delay."""
        host = self._host(origin)
        async with host.lock:
            if not host.known:
                await self._read(host, origin)
        if host.closed is not None:
            return host.closed
        if host.rules is not None and not host.rules.can_fetch(url, self._fetcher.user_agent):
            return Refusal(Verdict.DISALLOWED, "robots.txt disallows it")
        await self._turn(host)
        return None

    def _host(self, origin: str) -> _Host:
        host = self._hosts.get(origin)
        if host is None:
            if len(self._hosts) >= _REMEMBERED:
                self._hosts.popitem(last=False)
            host = self._hosts[origin] = _Host()
        return host

    async def _read(self, host: _Host, origin: str) -> None:
        journey = await follow(
            self._fetcher,
            f"{origin}/robots.txt",
            most=ROBOTS_REDIRECTS,
            gate=self._gate,
            max_bytes=ROBOTS_BYTES,
        )
        status = journey.response.status if journey.response else None
        if status is None or status >= 500 or status == 429:
            # RFC 9309 2.3.1.4: nobody knows what the host allows, so nothing is.
            host.closed = _closed(journey)
        elif journey.response is not None and journey.response.ok:
            text = journey.response.body.decode("utf-8-sig", errors="replace")
            host.rules = await asyncio.to_thread(Protego.parse, text)
            self._set_pace(host, origin)
        host.known = True

    def _set_pace(self, host: _Host, origin: str) -> None:
        asked = host.rules.crawl_delay(self._fetcher.user_agent) if host.rules else None
        host.delay = min(asked or 0.0, CRAWL_DELAY_MAX)
        if asked and asked > CRAWL_DELAY_MAX:
            self._fetcher.ctx.log.warn(
                "Crawl-delay is longer than is waited", origin=origin, asked=asked, waited=host.delay
            )

    async def _turn(self, host: _Host) -> None:
        if not host.delay:
            return
        now = time.monotonic()
        at = max(now, host.next_at)
        host.next_at = at + host.delay
        if at > now:
            await self._fetcher.ctx.sleep(at - now)


def _closed(journey: Journey) -> Refusal:
    if journey.response is not None:
        reason = f"robots.txt answered {journey.response.status}, so nothing is asked for there"
        return Refusal(Verdict.UNREACHABLE, reason)
    refusal = journey.refusal or Refusal(Verdict.UNREACHABLE, "no answer")
    return Refusal(refusal.verdict, f"robots.txt: {refusal.detail}")
