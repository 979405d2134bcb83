"""`jobdeck trigger --batch FILE`: a run for each line of JSON, and what became of each."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from jobdeck import jsonio, limits
from jobdeck.cli import options as read
from jobdeck.errors import JobdeckError, ValidationError
from jobdeck.model import BatchItem, BatchResult
from jobdeck.retry import Backoff, from_facts

if TYPE_CHECKING:
    from jobdeck.cli.call import Call
    from jobdeck.client import Client

# Params, and room for the options beside them.
_LINE_BYTES = limits.PARAMS_BYTES + limits.METADATA_BYTES + limits.TAGS_BYTES
_DURATIONS = ("delay", "ttl", "timeout", "dedupe_window")
_AS_IT_IS = (
    "queue", "priority", "max_attempts", "name", "tags", "metadata", "notify", "debug_mode", "requires_approval",
    "idempotency_key", "dedupe_key", "concurrency_key", "on_conflict",
    "callback_url",
)  # fmt: skip
_KNOWN = ("type", "params", "at", "after", "backoff", *_DURATIONS, *_AS_IT_IS)


async def trigger_batch(
    call: Call, client: Client, source: str, job_type: str | None, defaults: Mapping[str, Any]
) -> int:
    """Make the runs; the exit code of the first item that failed, else 0.

    Each line is an object: `type` (or the TYPE of the command line), `params`, and options by their names. Raises
    ValidationError for a file that cannot be read or has too many lines.
    """
    items: list[BatchItem | JobdeckError] = []
    for line in _lines(source):
        try:
            items.append(await _item(client, line, job_type, defaults))
        except JobdeckError as error:
            items.append(error)
    good = [item for item in items if isinstance(item, BatchItem)]
    made = iter(await client.runs.trigger_batch(good))
    results = [BatchResult(error=item) if isinstance(item, JobdeckError) else next(made) for item in items]
    _print(call, results)
    return next((result.error.exit_code for result in results if result.error is not None), 0)


def _lines(source: str) -> list[bytes]:
    found: list[bytes] = []
    with _opened(source) as file:
        while line := file.readline(_LINE_BYTES + 1):
            if not line.strip():
                continue
            found.append(line)
            if len(found) > limits.ENQUEUE_BATCH:
                raise ValidationError(
                    f"the batch has more than {limits.ENQUEUE_BATCH:,} lines; nothing is stored",
                    field="batch",
                )
            if len(line) > _LINE_BYTES:
                raise ValidationError(
                    f"line {len(found)} of the batch has more than {_LINE_BYTES:,} bytes; nothing is stored",
                    field="batch",
                )
    return found


@contextmanager
def _opened(source: str) -> Iterator[IO[bytes]]:
    if source == "-":
        yield sys.stdin.buffer
        return
    try:
        with Path(source).open("rb") as file:
            yield file
    except OSError as error:
        raise ValidationError(f"the batch {source} cannot be read: {error.strerror}", field="batch") from None


async def _item(client: Client, line: bytes, job_type: str | None, defaults: Mapping[str, Any]) -> BatchItem:
    found = jsonio.loads(line, what="the line", limit=_LINE_BYTES)
    if not isinstance(found, dict):
        raise ValidationError("a line of a batch is a JSON object", field="batch")
    unknown = sorted(set(found) - set(_KNOWN))
    if unknown:
        raise ValidationError(
            f"{unknown[0][:40]!r} is not known; a line has {', '.join(_KNOWN)}", field="batch"
        )
    kind, params = found.get("type", job_type), found.get("params", {})
    if not isinstance(kind, str):
        raise ValidationError("a line of a batch needs a type", field="type")
    if not isinstance(params, dict):
        raise ValidationError("params must be a JSON object", field="params")
    return BatchItem(kind, params, {**defaults, **await _options(client, found)})


async def _options(client: Client, found: Mapping[str, Any]) -> dict[str, Any]:
    options = {name: found[name] for name in _AS_IT_IS if name in found}
    _check_types(options)
    for name in _DURATIONS:
        if name in found:
            options[name] = read.duration(str(found[name]))
    if "at" in found:
        options["at"] = read.moment(str(found["at"]))
    if "backoff" in found:
        options["backoff"] = _backoff(found["backoff"])
    if "after" in found:
        words = found["after"] if isinstance(found["after"], list) else [found["after"]]
        options["after"] = await read.waits(client, [str(word) for word in words])
    return options


def _backoff(given: Any) -> Backoff:
    plain = Backoff().facts()
    if not isinstance(given, dict) or set(given) - set(plain):
        raise ValidationError(f"backoff is an object of {', '.join(plain)}", field="backoff")
    return from_facts(plain | given)


_TYPES: Mapping[str, type | tuple[type, ...]] = {
    **dict.fromkeys(
        ("queue", "name", "idempotency_key", "dedupe_key", "concurrency_key", "on_conflict", "callback_url"),
        str,
    ),
    **dict.fromkeys(("priority", "max_attempts"), int),
    **dict.fromkeys(("tags", "metadata"), dict),
    **dict.fromkeys(("notify", "debug_mode", "requires_approval"), bool),
}


def _check_types(options: Mapping[str, Any]) -> None:
    for name, value in options.items():
        wanted = _TYPES[name]
        if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
            raise ValidationError(f"{name} of a line of a batch is of the wrong type", field=name)
    tags = options.get("tags", {})
    if not all(isinstance(value, str) for value in tags.values()):
        raise ValidationError("tags are texts", field="tags")


def _print(call: Call, results: Sequence[BatchResult]) -> None:
    from jobdeck.cli.json_form.runs import batch_json
    from jobdeck.cli.output import emit, emit_json, say

    told = batch_json(results)
    if call.json:
        emit_json(told)
        return
    for row, result in zip(told["results"], results, strict=True):
        if result.error is not None:
            say(f"item {row['index'] + 1}: {result.error.message}")
        else:
            emit(f"{row['id']} {row['status']}")
    say(f"{told['created']} created, {told['deduplicated']} there already, {told['failed']} failed")
