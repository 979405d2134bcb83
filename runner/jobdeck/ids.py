"""Ids: UUIDv7 made by the client before the commit, shown as `run_` + 26 characters of base32.

Crockford's alphabet (no I, L, O, U), lower case, most significant first, so that text order is time order.
"""

from __future__ import annotations

import os
import random
import re
import threading
import time
from typing import Final
from uuid import UUID

from jobdeck.errors import ValidationError

NO_ID: Final = UUID(int=0)
"""The id of nothing."""
_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_VALUES: Final = {char: index for index, char in enumerate(_ALPHABET)}
_PAIRS: Final = [first + second for first in _ALPHABET for second in _ALPHABET]
_LENGTH: Final = 26
PART_MIN: Final = 4
"""Shortest prefix or tail that may stand for an id."""

_lock = threading.Lock()
_last = 0
# Its seed is of the system's randomness, each number is not: to ask the system lets go of the interpreter's lock, which
# a busy thread gives back 20 us later, and an id is no secret. Not the module's own, which handlers may seed.
_random = random.Random()
os.register_at_fork(after_in_child=_random.seed)
_low = _random.getrandbits(32)


def new_id() -> UUID:
    """A UUIDv7: milliseconds, 12 bits of sub-millisecond time, 30 random bits, and 32 bits that grow at random.

    Time is RFC 9562 method 3: ids of one process grow strictly, also when the wall clock stands still or goes back.
    The low bits are its method 2: each is the last one of the process plus 1 to 64, from a random start. So the
    tails of some 30,000 ids in a row differ, and an index of tails grows in few places instead of all over.
    """
    global _last, _low
    with _lock:
        nanoseconds = time.time_ns()
        stamp = (nanoseconds // 1_000_000 << 12) | (nanoseconds % 1_000_000 * 4096 // 1_000_000)
        _last = stamp = max(stamp, _last + 1)
        drawn = _random.getrandbits(64)
        _low = (_low + 1 + drawn % 64) % (1 << 32)
        low = drawn >> 34 << 32 | _low
    return UUID(int=(stamp >> 12) << 80 | 0x7 << 76 | (stamp & 0xFFF) << 64 | 0b10 << 62 | low)


def show_id(kind: str, value: UUID) -> str:
    """`show_id("run", id)` is `run_` and 26 characters."""
    number = value.int
    return f"{kind}_" + "".join([_PAIRS[number >> shift & 1023] for shift in range(120, -1, -10)])


def tail(shown: str, length: int = 6) -> str:
    """The random end of a shown id: what lists print."""
    return shown[-length:]


def parse_id(kind: str, text: str) -> UUID:
    """A whole id, shown or as a UUID. Raises ValidationError."""
    body = text.removeprefix(f"{kind}_").lower()
    if len(body) == _LENGTH and all(char in _VALUES for char in body) and body[0] in "01234567":
        number = 0
        for char in body:
            number = number << 5 | _VALUES[char]
        return UUID(int=number)
    try:
        return UUID(text)
    except ValueError:
        raise ValidationError(f"{text[:60]!r} is not an id of the form {kind}_…") from None


def parse_part(kind: str, text: str) -> UUID | str:
    """A whole id as UUID, else the part (4-25 characters, prefix or tail) to look up. Raises ValidationError."""
    body = text.removeprefix(f"{kind}_").lower()
    if PART_MIN <= len(body) < _LENGTH and re.fullmatch(f"[{_ALPHABET}]+", body):
        return body
    if len(body) < PART_MIN:
        raise ValidationError(f"{text[:60]!r} is too short; give at least {PART_MIN} characters of the id")
    return parse_id(kind, text)


def prefix_range(part: str) -> tuple[UUID, UUID]:
    """The lowest and highest id whose shown form begins with `part`."""
    low = high = 0
    for char in part:
        low, high = low << 5 | _VALUES[char], high << 5 | _VALUES[char]
    missing = 5 * (_LENGTH - len(part))
    low, high = low << missing, (high << missing) | ((1 << missing) - 1)
    top = (1 << 128) - 1
    return UUID(int=min(low, top)), UUID(int=min(high, top))


def tail_bits(part: str) -> tuple[int, int]:
    """The value of a tail and how many low bits of the id it fixes."""
    number = 0
    for char in part:
        number = number << 5 | _VALUES[char]
    return number, 5 * len(part)
