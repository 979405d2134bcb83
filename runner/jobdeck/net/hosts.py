"""What one host is spared: few requests at a time, and none before the time it has asked for.

A worker runs many handlers beside each other, and all their requests go through one client, so this holds across
runs. A host that is slow or down gets no more than its places; runs that find none step aside (HostBusy).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from jobdeck.clock import Clock
from jobdeck.net.errors import HostBusy
from jobdeck.net.response import HttpResponse

PATIENCE: Final = 30.0
"""Default seconds that a request waits for its place; they do not count against its deadline."""
# Too Many Requests and Service Unavailable: the answers whose Retry-After speaks for the host, not for one resource.
_TURNED_AWAY: Final = frozenset({429, 503})
# Of a stranger's choosing, so bounded; far more than the hosts one worker works with at a time.
_REMEMBERED: Final = 1_000


class _Host:
    """One host. `held_until` is a time of the monotonic clock."""

    __slots__ = ("held_until", "places", "users")

    def __init__(self, places: int) -> None:
        self.places = asyncio.Semaphore(places)
        self.users = 0
        self.held_until = 0.0


class Hosts:
    """All hosts of one client. `most` is how many requests to one of them may be under way at a time."""

    def __init__(self, most: int, clock: Clock) -> None:
        self._most = most
        self._clock = clock
        self._hosts: dict[str, _Host] = {}

    @asynccontextmanager
    async def place(self, name: str, patience: float) -> AsyncIterator[None]:
        """A place at this host, waited for at most `patience` seconds. Raises HostBusy."""
        host = self._host(name)
        host.users += 1
        deadline = self._clock.monotonic() + patience
        try:
            await self._until_held_no_more(name, host, deadline)
            await self._take(name, host, patience)
            try:
                # Whoever had the place may have been turned away.
                await self._until_held_no_more(name, host, deadline)
                yield
            finally:
                host.places.release()
        finally:
            host.users -= 1

    def answered(self, name: str, response: HttpResponse) -> None:
        """Keep what the host asks for, if it turns requests away and says for how long."""
        seconds = response.retry_after if response.status in _TURNED_AWAY else None
        if seconds:
            host = self._host(name)
            host.held_until = max(host.held_until, self._clock.monotonic() + seconds)

    async def _until_held_no_more(self, name: str, host: _Host, deadline: float) -> None:
        while (wait := host.held_until - self._clock.monotonic()) > 0:
            if self._clock.monotonic() + wait > deadline:
                raise HostBusy(f"{name} asks to be left alone for another {wait:.0f} s", retry_after=wait)
            await self._clock.sleep(wait)

    async def _take(self, name: str, host: _Host, patience: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await host.places.acquire()
                return
        raise HostBusy(
            f"{name} is busy with {self._most} requests of this worker ([http] per_host); none ended in {patience:g} s"
        )

    def _host(self, name: str) -> _Host:
        host = self._hosts.get(name)
        if host is None:
            if len(self._hosts) >= _REMEMBERED:
                self._forget()
            host = self._hosts[name] = _Host(self._most)
        return host

    def _forget(self) -> None:
        """Drop the hosts that nobody asks; those that are held only if there are still too many."""
        now = self._clock.monotonic()
        unused = [name for name, host in self._hosts.items() if not host.users]
        idle = [name for name in unused if self._hosts[name].held_until <= now]
        for name in idle or unused:
            del self._hosts[name]
