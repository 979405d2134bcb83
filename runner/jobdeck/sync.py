"""jobdeck for programs that are not async: the same client, on an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self, TypeVar
from uuid import UUID

from sqlalchemy import Connection

from jobdeck.bootstrap import open_client
from jobdeck.client import Client
from jobdeck.settings import Settings, load_settings

T = TypeVar("T")


class SyncClient:
    """`with SyncClient() as jobdeck: run = jobdeck(lambda client: client.runs.trigger("noop"))`.

    Whatever the async client can do is done by a call with a function of it; calls may come from several threads.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        """`settings` None: those of the configuration file and the environment."""
        self._settings = settings
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: Client | None = None
        self._close: asyncio.Event

    def open(self) -> None:
        """Connect. Raises what `open_client` raises: DatabaseUnavailable, WrongRevision, NotFound, ConfigError."""
        settings = load_settings() if self._settings is None else self._settings
        opened: Future[None] = Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._live(settings, opened)), name="jobdeck-client", daemon=True
        )
        self._thread.start()
        opened.result()

    async def _live(self, settings: Settings, opened: Future[None]) -> None:
        self._close = asyncio.Event()
        try:
            async with open_client(settings) as client:
                self._loop, self._client = asyncio.get_running_loop(), client
                opened.set_result(None)
                await self._close.wait()
        except BaseException as error:
            if opened.done():
                raise
            opened.set_exception(error)
        finally:
            self._loop = self._client = None

    def __call__(self, act: Callable[[Client], Awaitable[T]]) -> T:
        """Do something with the client and wait for it; raises what that raises, RuntimeError where it is closed."""
        loop, client = self._opened()

        async def work() -> T:
            return await act(client)

        return asyncio.run_coroutine_threadsafe(work(), loop).result()

    def enqueue_in(
        self, conn: Connection, job_type: str, params: Mapping[str, Any] | None = None, **options: Any
    ) -> UUID:
        """A run that exists if and only if the transaction of `conn`, a connection to jobdeck's database, commits.

        Options and errors are those of `client.runs.enqueue_in`; the transaction is used on the calling thread.
        """
        new = self(lambda client: client.runs.build(job_type, params, **options))
        loop, client = self._opened()
        return client.runs._store_in(conn, new, loop)

    def _opened(self) -> tuple[asyncio.AbstractEventLoop, Client]:
        if self._loop is None or self._client is None:
            raise RuntimeError("the client is not open")
        return self._loop, self._client

    def close(self) -> None:
        """Disconnect; what was called before is done first."""
        loop, thread = self._loop, self._thread
        if loop is not None:
            loop.call_soon_threadsafe(self._close.set)
        if thread is not None:
            thread.join()
        self._thread = None

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
