"""What a sender is given, and what it answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol


@dataclass(frozen=True, slots=True)
class Letter:
    """One notification on its way."""

    message_id: str
    """Equal in every try."""
    endpoint: str
    body: str
    """JSON text, sent as it is."""
    secrets: tuple[str, ...] = ()
    """What a webhook is signed with."""


class Sent(NamedTuple):
    """It has arrived."""

    code: int | None = None
    note: str | None = None


class Unsent(Exception):
    """It has not arrived, in one line."""

    def __init__(
        self,
        words: str,
        *,
        code: int | None = None,
        again: bool = True,
        after: float | None = None,
        gone: bool = False,
        left: str | None = None,
    ) -> None:
        super().__init__(words)
        self.code = code
        self.again = again
        """Whether another try may do better."""
        self.after = after
        """Seconds that the receiver asks to wait."""
        self.gone = gone
        """The receiver wants no more notifications at all."""
        self.left = left
        """The endpoint of further tries, where it has arrived in part."""


def said_of(error: BaseException) -> str:
    """What a stranger's error is and says, also where its own text fails."""
    try:
        text = str(error)
    except BaseException:
        text = "it has no text"
    return f"{type(error).__name__}: {text}"


class Sender(Protocol):
    """Sends by one channel, on one event loop."""

    async def send(self, letter: Letter) -> Sent:
        """Try once, within seconds. Raises Unsent; any other error counts as one that another try may mend."""

    async def aclose(self) -> None:
        """Let go of connections."""


MakeSender = Callable[[], Sender]
"""Makes a sender, on the loop it will be used on."""
