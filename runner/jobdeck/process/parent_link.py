"""The child's end of the connection to its worker, usable from every thread of the child."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from jobdeck.context import CancelReason
from jobdeck.process.stop import StopNotice
from jobdeck.process.wire import decode, encode, restore


class ParentLink:
    """Sends messages, matches replies to calls, and turns the worker's cancel into a StopNotice."""

    def __init__(self, connection: socket.socket) -> None:
        self.stop = StopNotice()
        self._connection = connection
        self._lines = connection.makefile("rb")
        self._sending = threading.Lock()
        self._numbers = itertools.count(1)
        self._calls: dict[int, Future[Any]] = {}

    def receive(self) -> dict[str, Any]:
        """The next message. Raises EOFError when the worker is gone."""
        line = self._lines.readline()
        if not line:
            raise EOFError("the worker is gone")
        return decode(line)

    def listen(self) -> None:
        """Handle what comes from now on, in a thread of its own: the handler may block all others."""
        threading.Thread(target=self._listen, name="jobdeck-parent-link", daemon=True).start()

    def send(self, message: Mapping[str, Any]) -> None:
        """Send one message; waits while the worker does not take it."""
        data = encode(message)
        with self._sending:
            self._connection.sendall(data)

    def call(self, method: str, arguments: Mapping[str, Any]) -> Future[Any]:
        """Have the worker call a method of its context; the future holds its answer or its error."""
        number = next(self._numbers)
        answer: Future[Any] = Future()
        # Never cancellable: the reply comes in any case, and a cancelled waiter must not lose it for others.
        answer.set_running_or_notify_cancel()
        self._calls[number] = answer
        self.send({"op": "call", "id": number, "method": method, "arguments": arguments})
        return answer

    def _listen(self) -> None:
        try:
            while True:
                self._handle(self.receive())
        except (EOFError, OSError):
            # The supervisor ends this process in a moment; a handler that looks may stop by itself.
            self.stop.set(CancelReason.LEASE_LOST)
            for answer in self._calls.values():
                answer.set_exception(EOFError("the worker is gone"))

    def _handle(self, message: Mapping[str, Any]) -> None:
        if message["op"] == "cancel":
            self.stop.set(CancelReason(message["reason"]))
            return
        answer = self._calls.pop(message["id"])
        if "error" in message:
            answer.set_exception(restore(message["error"]))
        else:
            answer.set_result(message["value"])
