"""Host names to addresses, by the system's resolver."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol

_THREADS: Final = 8


class Resolver(Protocol):
    """Answers with every address of a name, best first. Raises OSError when there is none."""

    async def __call__(self, host: str, port: int, /) -> Sequence[str]: ...


class SystemResolver:
    """getaddrinfo in threads of its own.

    A lookup cannot be interrupted; on the loop's shared executor a few names whose servers never answer
    would hold up everything else that uses it.
    """

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="jobdeck-dns")

    async def __call__(self, host: str, port: int, /) -> Sequence[str]:
        found = await asyncio.get_running_loop().run_in_executor(self._executor, _lookup, host, port)
        return list(dict.fromkeys(found))

    def close(self) -> None:
        """Take no more lookups; one under way ends by itself, unheard."""
        self._executor.shutdown(wait=False, cancel_futures=True)


def _lookup(host: str, port: int) -> list[str]:
    return [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
