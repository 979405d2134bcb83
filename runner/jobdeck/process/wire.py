"""What passes between a worker and the child that runs a handler: one JSON object a line, in both directions.

To the child: `start` once, then `cancel` and `reply`. From it: `log`, `progress`, `call` (answered by
`reply`) and, once and last, `outcome`. Errors and steering exceptions cross as plain facts and are raised
again on the other side.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import traceback
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from pydantic_core import to_jsonable_python

from jobdeck.errors import JobdeckError
from jobdeck.limits import ERROR_BYTES, LOG_LINE_BYTES, RESULT_BYTES
from jobdeck.outcome import Cancelled, Discard, Park, Retry, Snooze
from jobdeck.secret import redact
from jobdeck.text import cut_bytes

# Escaped, the JSON of the largest thing that may be sent (a result, a checkpoint) grows at most sixfold.
MESSAGE_BYTES: Final = 8 * RESULT_BYTES
_TRACEBACK_FRAMES: Final = 30


class ChildError(JobdeckError):
    """The handler raised in its child process; `kind` is the name of the exception's type."""

    code = "child_error"

    def __init__(self, kind: str, message: str, traceback_text: str) -> None:
        super().__init__(f"{kind}: {message}" if message else kind)
        self.kind = kind
        if traceback_text:
            # A note is what every traceback of this error shows: here, where it happened there.
            self.add_note(f"In the child process:\n{traceback_text}")


class ChildDied(JobdeckError):
    """The child process ended without an outcome: killed, out of memory, crashed in native code."""

    code = "child_died"


def encode(message: Mapping[str, Any]) -> bytes:
    """One line; of settings, which are TOML, dates and times become text."""
    return json.dumps(message, separators=(",", ":"), default=str).encode() + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """The object of one line. Raises ValueError for anything else."""
    message = json.loads(line)
    if not isinstance(message, dict):
        raise ValueError("a message is a JSON object")
    return message


def capped(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Log fields with secrets masked and no value beyond the length of a log line."""
    plain = to_jsonable_python(dict(fields), fallback=repr, inf_nan_mode="strings")
    return {name[:LOG_LINE_BYTES]: _capped_value(value) for name, value in plain.items()}


def _capped_value(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    text = value if isinstance(value, str) else json.dumps(value)
    shown = cut_bytes(redact(text), LOG_LINE_BYTES)
    return value if shown == text else shown


def describe(error: BaseException) -> dict[str, Any]:
    """`error` as facts that `restore` raises again."""
    facts: dict[str, Any] = {"kind": type(error).__name__, "message": redact(_message(error))}
    match error:
        case Retry():
            after = None if error.after is None else error.after.total_seconds()
            return facts | {"raise": "retry", "after": after}
        case Discard():
            return facts | {"raise": "discard"}
        case Snooze():
            return facts | {"raise": "snooze", "delay": error.delay.total_seconds()}
        case Park():
            until = None if error.until is None else error.until.isoformat()
            return facts | {"raise": "park", "delay": error.delay.total_seconds(), "until": until}
        case Cancelled() | asyncio.CancelledError():
            return facts | {"raise": "cancelled"}
        case ChildError():
            pass
        case JobdeckError():
            return facts | {"raise": "jobdeck", "code": error.code, "details": error.details()}
    lines = traceback.format_exception(error, limit=-_TRACEBACK_FRAMES)
    return facts | {"raise": "error", "traceback": cut_bytes(redact("".join(lines)), 4 * ERROR_BYTES)}


def _message(error: BaseException) -> str:
    try:
        return cut_bytes(str(error), ERROR_BYTES)
    except Exception:
        return "(its message cannot be shown)"


def restore(facts: Mapping[str, Any]) -> BaseException:
    """The exception that `describe` was given: the same class for what jobdeck knows, else ChildError."""
    message = str(facts["message"])
    match facts["raise"]:
        case "retry":
            return Retry(message, after=facts["after"])
        case "discard":
            return Discard(message)
        case "snooze":
            return Snooze(facts["delay"], message)
        case "park":
            until = facts["until"]
            return Park(facts["delay"] if until is None else datetime.fromisoformat(until), message)
        case "cancelled":
            return Cancelled(message)
        case "jobdeck":
            return _jobdeck_error(facts)
        case _:
            return ChildError(str(facts["kind"]), message, str(facts.get("traceback", "")))


def _jobdeck_error(facts: Mapping[str, Any]) -> JobdeckError:
    """The class by its name and code; what `details()` adds to those are the keywords of its `__init__`."""
    message = str(facts["message"])
    more = {name: value for name, value in facts["details"].items() if name not in ("code", "message")}
    for known in _subclasses(JobdeckError):
        if known.__name__ == facts["kind"] and known.code == facts["code"]:
            with contextlib.suppress(TypeError):
                return known(message, **more)
    return ChildError(str(facts["kind"]), message, "")


def _subclasses(parent: type[JobdeckError]) -> Iterator[type[JobdeckError]]:
    yield parent
    for child in parent.__subclasses__():
        yield from _subclasses(child)


def pack_options(options: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Options of `enqueue`, each with what it takes to have it again as the same type."""
    return {name: _pack(value) for name, value in options.items()}


def _pack(value: Any) -> list[Any]:
    match value:
        case timedelta():
            return ["timedelta", value.total_seconds()]
        case datetime():
            return ["datetime", value.isoformat()]
        case UUID():
            return ["uuid", str(value)]
        case _:
            return ["plain", value]


def unpack_options(packed: Mapping[str, Any]) -> dict[str, Any]:
    """What `pack_options` was given."""
    kinds: dict[str, Any] = {
        "timedelta": lambda seconds: timedelta(seconds=seconds),
        "datetime": datetime.fromisoformat,
        "uuid": UUID,
        "plain": lambda value: value,
    }
    return {name: kinds[kind](value) for name, (kind, value) in packed.items()}
