"""The child process of one attempt: `python -m jobdeck.process.child FD`, FD a socket to its worker."""

from __future__ import annotations

import asyncio
import faulthandler
import importlib
import json
import logging
import operator
import signal
import socket
import sys
from collections.abc import Mapping
from functools import cache
from types import FrameType
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_jsonable_python

from jobdeck.context import Context
from jobdeck.errors import ValidationError
from jobdeck.jsonio import check, dumps
from jobdeck.limits import RESULT_BYTES
from jobdeck.outcome import Cancelled, Discard
from jobdeck.process.child_context import ChildContext
from jobdeck.process.parent_link import ParentLink
from jobdeck.process.wire import describe
from jobdeck.secret import SCHEME, Lookup, filled, lookup, masked
from jobdeck.spec import HandlerSpec

_LEVELS = ((logging.ERROR, "error"), (logging.WARNING, "warn"), (logging.INFO, "info"))


class _LogCapture(logging.Handler):
    """Std `logging` of this process becomes the log of the run: there is just one run here."""

    def __init__(self, ctx: Context) -> None:
        super().__init__(logging.INFO)
        self._ctx = ctx

    def emit(self, record: logging.LogRecord) -> None:
        try:
            level = next((name for number, name in _LEVELS if record.levelno >= number), "debug")
            fields = {"logger": record.name}
            if record.exc_info and record.exc_info[0] is not None:
                fields["exception"] = f"{record.exc_info[0].__name__}: {record.exc_info[1]}"
            self._ctx.log.write(level, record.getMessage(), fields)
        except Exception:
            self.handleError(record)


def load(reference: str) -> HandlerSpec:
    """The spec that `module:attribute` names. Raises ImportError, AttributeError, TypeError."""
    module, _, attribute = reference.partition(":")
    found = operator.attrgetter(attribute)(importlib.import_module(module))
    if not isinstance(found, HandlerSpec):
        raise TypeError(f"{reference} is a {type(found).__name__}, not a handler")
    return found


def perform(link: ParentLink, start: Mapping[str, Any]) -> dict[str, Any]:
    """Run the handler; the outcome message, whatever happens."""
    spec: HandlerSpec | None = None
    try:
        spec = load(start["reference"])
        lookup.set(_asking(link))
        params = spec.parse(_with_secrets(start["params"]))
        ctx = ChildContext(link, start["run"])
        capture = _LogCapture(ctx)
        logging.basicConfig(level=logging.INFO, handlers=[capture], force=True)
        result = asyncio.run(_on_loop(spec, ctx, params)) if spec.is_async else _plainly(spec, ctx, params)
        return {"op": "outcome", "result": _result_text(result)}
    except BaseException as error:
        steered = spec.steer(error) if spec is not None and isinstance(error, Exception) else error
        return {"op": "outcome", "error": describe(steered)}


def _asking(link: ParentLink) -> Lookup:
    """The worker has the sources of secrets and knows the team. Each is asked for once."""

    @cache
    def ask(name: str) -> str:
        return str(link.call("secret", {"name": name}).result())

    return ask


def _with_secrets(params_json: str) -> Any:
    raw = json.loads(params_json)
    return filled(raw) if SCHEME in params_json else raw


def _result_text(result: Any) -> str:
    """JSON with secrets masked. Raises Discard: to run it again would not make the result storable."""
    try:
        plain = to_jsonable_python(result)
        check(plain, what="result")
        return dumps(masked(plain), what="result", limit=RESULT_BYTES)
    except (PydanticSerializationError, ValidationError) as error:
        raise Discard(f"the result cannot be stored: {error}") from error


async def _on_loop(spec: HandlerSpec, ctx: ChildContext, params: BaseModel) -> Any:
    task = asyncio.ensure_future(spec(ctx, params))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        return await task
    finally:
        await ctx.aclose()


def _plainly(spec: HandlerSpec, ctx: ChildContext, params: BaseModel) -> Any:
    signal.signal(signal.SIGTERM, _stop)
    return spec(ctx, params)


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise Cancelled("the child process is being ended")


def main() -> None:
    """Run one attempt and end."""
    faulthandler.enable()
    # A socket's family and type are read off the descriptor itself.
    connection = socket.socket(fileno=int(sys.argv[1]))
    connection.set_inheritable(False)
    link = ParentLink(connection)
    start = link.receive()
    sys.path[:] = start["path"]
    link.listen()
    outcome = perform(link, start)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    link.send(outcome)


if __name__ == "__main__":
    main()
