"""Notifiers of other packages: entry points of the group `jobdeck.notifiers`, named by the type that jobs state."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import partial
from importlib.metadata import entry_points
from typing import Any, Final

from jobdeck.delivery.sender import Letter, Sent, Unsent, said_of
from jobdeck.errors import ConfigError
from jobdeck.notifiers import CALLBACK, EMAIL, WEBHOOK, Deliver, Notification
from jobdeck.outcome import Discard, Retry
from jobdeck.plugins import BrokenPlugin, loaded
from jobdeck.secret import redact
from jobdeck.secret.forms import LONG
from jobdeck.secret.names import MASK
from jobdeck.text import clean

GROUP: Final = "jobdeck.notifiers"
_WORDS_CHARS: Final = 300


def load_notifiers() -> tuple[dict[str, Deliver], list[BrokenPlugin]]:
    """What installed packages deliver by, and what could not be loaded. Raises ConfigError for a type offered twice."""
    found: dict[str, Deliver] = {}
    broken: list[BrokenPlugin] = []
    for point in sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value)):
        if point.name in (CALLBACK, WEBHOOK, EMAIL) or point.name in found:
            raise ConfigError(f"the notifier {point.name!r} is offered twice; uninstall one of the packages")
        try:
            found[point.name] = _checked(loaded(partial(point.load)))
        except Exception as error:
            # Whatever a stranger's module raises on import must not take the others down.
            source = f"entry point {point.name} = {point.value}"
            broken.append(BrokenPlugin(source, f"{type(error).__name__}: {error}".splitlines()[0][:300]))
    return found, broken


def _checked(value: Any) -> Deliver:
    if not inspect.iscoroutinefunction(value):
        raise TypeError("a notifier is an async function of a Notification and its settings")
    deliver: Deliver = value
    return deliver


class PackageSender:
    """Asks the function of a package."""

    def __init__(self, deliver: Deliver, settings: Mapping[str, Any]) -> None:
        self._deliver = deliver
        self._settings = settings
        long = (text for text in _texts(settings) if len(text) >= LONG)
        # An address with a key in it is a secret, and nothing says so: here none of them is needed in clear.
        self._private = sorted(long, key=len, reverse=True)

    async def send(self, letter: Letter) -> Sent:
        try:
            await self._deliver(_notification(letter), self._settings)
        except Retry as error:
            after = None if error.after is None else error.after.total_seconds()
            raise Unsent(self._words(str(error)), after=after) from error
        except Discard as error:
            raise Unsent(self._words(str(error)), again=False) from error
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as error:
            raise Unsent(self._words(said_of(error))) from error
        return Sent()

    async def aclose(self) -> None:
        return None

    def _words(self, text: str) -> str:
        for value in self._private:
            text = text.replace(value, MASK)
        return clean(redact(text), _WORDS_CHARS)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


def _notification(letter: Letter) -> Notification:
    told = json.loads(letter.body)
    at = datetime.fromisoformat(told["timestamp"])
    return Notification(letter.message_id, told["type"], at, letter.endpoint, told["data"], letter.body)
