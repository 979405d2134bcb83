"""Runs one attempt of a handler with `isolation="process"` in a Python process that can be killed.

Its memory, its crashes and its hold on the interpreter stay its own; what it asks of its context is done
here.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
from collections.abc import Mapping
from typing import Any, Final

from jobdeck.context import Context
from jobdeck.errors import JobdeckError
from jobdeck.outcome import Cancelled
from jobdeck.process.output import OutputLine
from jobdeck.process.supervised import ProcessExit, SupervisedProcess
from jobdeck.process.wire import (
    MESSAGE_BYTES,
    ChildDied,
    decode,
    describe,
    encode,
    restore,
    unpack_options,
)
from jobdeck.secret import SCHEME, resolve

# How long the child may take to end once it has told its outcome: exit handlers, threads, destructors.
_EXIT_GRACE: Final = 2.0
# `ctx.sleep` wakes at a cancel; its length does not matter.
_LONG: Final = 3_600
# A handler has no business with jobdeck's own database, and asks for the secrets of its team.
_HIDDEN: Final = ("JOBDECK_DATABASE", "JOBDECK_SECRET")


async def run_isolated(reference: str, ctx: Context, params_json: str) -> Any:
    """Run the handler that `reference` (`module:attribute`) names, with `params_json`, and return its result.

    Raises what the handler raised, where that is one of jobdeck's exceptions (Retry, Discard, Snooze,
    Cancelled, StaleLease, ValidationError and so on), ChildError for any other, and ChildDied when the
    process ended without an outcome. A cancel of `ctx` reaches the handler as a notice. When the awaiting
    task is cancelled, the child and all below it get SIGTERM, then SIGKILL.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        argv = [sys.executable, "-u", "-m", "jobdeck.process.child", str(theirs.fileno())]
        environment = {name: value for name, value in os.environ.items() if not name.startswith(_HIDDEN)}
        async with SupervisedProcess(argv, env=environment, pass_fds=[theirs.fileno()]) as process:
            theirs.close()
            reader, writer = await asyncio.open_connection(sock=ours, limit=MESSAGE_BYTES)
            try:
                return await _Relay(ctx, process, reader, writer).run(_start(reference, ctx, params_json))
            finally:
                # Not close(): that would wait until a child that reads no more has taken everything.
                writer.transport.abort()


def _start(reference: str, ctx: Context, params_json: str) -> dict[str, Any]:
    run = {
        "run_id": str(ctx.run_id),
        "team": ctx.team,
        "project": ctx.project,
        "job_type": ctx.job_type,
        "attempt": ctx.attempt,
        "fence": ctx.fence,
        "token": ctx.token,
        "resume": ctx.resume,
        "settings": dict(ctx.settings),
    }
    return {"op": "start", "reference": reference, "params": params_json, "run": run, "path": sys.path}


class _Relay:
    """Serves one child until it has told its outcome or is gone."""

    def __init__(
        self,
        ctx: Context,
        process: SupervisedProcess,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._ctx = ctx
        self._process = process
        self._reader = reader
        self._writer = writer
        self._last_stderr = ""

    async def run(self, start: Mapping[str, Any]) -> Any:
        output = asyncio.create_task(self._relay_output())
        notice = asyncio.create_task(self._announce_cancel())
        try:
            await self._send(start)
            outcome = await self._serve()
            ended = await self._end()
            await output
        finally:
            for task in (output, notice):
                task.cancel()
            await asyncio.gather(output, notice, return_exceptions=True)
        if outcome is None:
            raise ChildDied(self._explain(ended))
        if "error" in outcome:
            raise restore(outcome["error"])
        return json.loads(outcome["result"])

    async def _serve(self) -> dict[str, Any] | None:
        """Carry out what the child asks; its outcome, or None when it is gone without one."""
        while True:
            try:
                line = await self._reader.readline()
            except ConnectionError:
                return None
            except ValueError:
                raise ChildDied(f"the child sent a message beyond {MESSAGE_BYTES:,} bytes") from None
            if not line.endswith(b"\n"):
                return None
            message = decode(line)
            match message["op"]:
                case "outcome":
                    return message
                case "log":
                    self._ctx.log.write(message["level"], message["message"], message["fields"])
                case "trace":
                    self._ctx.trace(**message["seconds"])
                case "progress":
                    self._ctx.progress(**{name: value for name, value in message.items() if name != "op"})
                case "call":
                    await self._answer(message)

    async def _answer(self, message: Mapping[str, Any]) -> None:
        reply: dict[str, Any] = {"op": "reply", "id": message["id"]}
        try:
            reply["value"] = await self._call(message["method"], message["arguments"])
        except (JobdeckError, Cancelled) as error:
            reply["error"] = describe(error)
        await self._send(reply)

    async def _call(self, method: str, arguments: Mapping[str, Any]) -> Any:
        match method:
            case "checkpoint":
                return await self._ctx.checkpoint(arguments["state"])
            case "verify_lease":
                return await self._ctx.verify_lease()
            case "secret":
                # Resolved here, so that this process masks it in what the child prints.
                return await asyncio.to_thread(resolve, SCHEME + arguments["name"])
            case _:
                options = unpack_options(arguments["options"])
                return str(await self._ctx.enqueue(arguments["job_type"], arguments["params"], **options))

    async def _send(self, message: Mapping[str, Any]) -> None:
        # A child that is gone is noticed by the reader.
        with contextlib.suppress(ConnectionError):
            self._writer.write(encode(message))
            await self._writer.drain()

    async def _announce_cancel(self) -> None:
        try:
            while True:
                await self._ctx.sleep(_LONG)
        except Cancelled:
            await self._send({"op": "cancel", "reason": self._ctx.cancel_reason})

    async def _relay_output(self) -> None:
        async for line in self._process.lines():
            self._relay_line(line)

    def _relay_line(self, line: OutputLine) -> None:
        if line.stream == "stderr":
            # After this line of the interpreter comes its stack, whose last line says nothing.
            if not self._last_stderr.startswith("Fatal Python error"):
                self._last_stderr = line.text.strip() or self._last_stderr
            self._ctx.log.warn(line.text, stream=line.stream)
        else:
            self._ctx.log.info(line.text, stream=line.stream)

    async def _end(self) -> ProcessExit:
        try:
            async with asyncio.timeout(_EXIT_GRACE):
                return await self._process.wait()
        except TimeoutError:
            self._process.kill()
            return await self._process.wait()

    def _explain(self, ended: ProcessExit) -> str:
        said = f": {self._last_stderr}" if self._last_stderr else ""
        return f"the child process ended without an outcome, {ended.describe()}{said}"
