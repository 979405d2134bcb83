"""What a cron expression may hold: five fields, judged item by item before the parser sees them.

The parser accepts what it should not: a sixth field of seconds, values that differ from process to process, ranges
that run backwards, `5-5` for every value there is. Whatever is refused here is refused with the text to write instead.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from jobdeck import limits
from jobdeck.errors import ValidationError

_MONTHS: Final = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
_WEEKDAYS: Final = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]
_NICKNAMES: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_FOREIGN: Final = re.compile(r"[^0-9A-Za-z*,/\-?# \t]")
_ITEM: Final = re.compile(r"(?:(?P<star>\*)|(?P<low>\w+)(?:-(?P<high>\w+))?)(?:/(?P<step>[0-9]+))?", re.ASCII)
# Longest piece of a refused text that a message repeats.
_SHOWN: Final = 24


@dataclass(frozen=True, slots=True)
class Field:
    """One of the five. `low` to `end` is the cycle that a star means; `high` is the highest value one may write."""

    name: str
    low: int
    end: int
    high: int
    names: Mapping[str, int] = field(default_factory=dict)


MINUTE: Final = Field("minute", 0, 59, 59)
HOUR: Final = Field("hour", 0, 23, 23)
DAY: Final = Field("day-of-month", 1, 31, 31)
MONTH: Final = Field("month", 1, 12, 12, {name: number for number, name in enumerate(_MONTHS, 1)})
WEEKDAY: Final = Field("day-of-week", 0, 6, 7, {name: number for number, name in enumerate(_WEEKDAYS)})
FIELDS: Final = (MINUTE, HOUR, DAY, MONTH, WEEKDAY)


def wrong(message: str) -> ValidationError:
    """The refusal of an expression."""
    return ValidationError(message, field="cron")


def checked(expression: str) -> tuple[str, ...]:
    """The five fields as the parser reads them: names as numbers, `?` as `*`, `5L` as `L5`.

    Raises ValidationError (field `cron`) with what to write instead, after looking at 100 characters at most.
    """
    parts = _legible(expression).split()
    if len(parts) != len(FIELDS):
        raise wrong(_count_message(len(parts)))
    return tuple(_read_field(part, text) for part, text in zip(FIELDS, parts, strict=True))


def _legible(expression: str) -> str:
    if len(expression) > limits.CRON_CHARS:
        raise wrong(
            f"a cron expression has at most {limits.CRON_CHARS} characters, this one has {len(expression):,}"
        )
    nickname = expression.strip().lower()
    if nickname in _NICKNAMES:
        raise wrong(f"nicknames like {nickname} are not read; write {_NICKNAMES[nickname]}")
    if foreign := _FOREIGN.search(expression):
        raise wrong(f"{foreign[0]!a} has no meaning in a cron expression; {_FORM}")
    return expression


_FORM: Final = "write five fields: minute hour day-of-month month day-of-week, as in 30 2 * * 1-5"


def _count_message(count: int) -> str:
    if count in (6, 7):
        return f"it has {count} fields, and seconds and years are not read; {_FORM}"
    return f"it has {count} {'field' if count == 1 else 'fields'}; {_FORM}"


def _read_field(part: Field, text: str) -> str:
    items = text.upper().split(",")
    if part in (DAY, WEEKDAY) and items == ["?"]:
        return "*"
    read = [_special(part, item) or _plain(part, item) for item in items]
    if len(items) > 1:
        _refuse_company(part, items, read)
    return ",".join(read)


def _refuse_company(part: Field, items: list[str], read: list[str]) -> None:
    """What has to stand alone in its field."""
    if "*" in read:
        raise _refused(part, ",".join(items), "a * in a list means every value already", "*")
    if any(item.endswith("W") for item in read):
        raise _refused(
            part, ",".join(items), "W stands alone in its field", next(i for i in read if "W" in i)
        )
    special = ["#" in item or "L" in item for item in read]
    if part is WEEKDAY and any(special) and not all(special):
        why = "days of every week and days by their place in the month do not mix; make two schedules"
        raise _refused(part, ",".join(items), why)


def _special(part: Field, item: str) -> str | None:
    """`L` and `15W` of the days of the month, `5#2` and `5L` of the days of the week."""
    if part is DAY and item == "L":
        return "L"
    if part is DAY and item.endswith("W") and item[:-1].isdigit():
        return f"{_number(part, item[:-1])}W"
    if part is WEEKDAY and item == "L":
        raise _refused(part, item, "it needs a day; for the last Friday of the month", "5L")
    if part is WEEKDAY and item.endswith("L"):
        return f"L{_number(part, item[:-1]) % 7}"
    if part is WEEKDAY and "#" in item:
        day, _, place = item.partition("#")
        if place not in {"1", "2", "3", "4", "5"}:
            why = "a month has the first to the fifth of a weekday"
            raise _refused(part, item, why, f"{day}#1 to {day}#5")
        return f"{_number(part, day) % 7}#{place}"
    return None


def _plain(part: Field, item: str) -> str:
    found = _ITEM.fullmatch(item)
    if found is None:
        raise _refused(part, item, "it is none of *, a, a-b, */n, a-b/n, or a list of these with commas")
    step = None if found["step"] is None else int(found["step"])
    if step == 0:
        raise _refused(part, item, "a step is at least 1", item.removesuffix(f"/{found['step']}"))
    if found["star"]:
        return _stepped(part, item, "*", part.low, part.end, step)
    low = _number(part, found["low"])
    if found["high"] is None:
        return str(low) if step is None else _refuse_start_with_step(part, item, low, step)
    # Where SUN ends a range, the Sunday at the end of the week is meant.
    high = 7 if low and part is WEEKDAY and found["high"] == "SUN" else _number(part, found["high"])
    if low > high:
        raise _refused(part, item, "the range runs backwards", _forwards(part, low, high, step))
    if low == high:
        raise _refused(part, item, "the range holds one value", str(low))
    return _stepped(part, item, f"{low}-{high}", low, high, step)


def _stepped(part: Field, item: str, text: str, low: int, high: int, step: int | None) -> str:
    if step is None:
        return text
    if low + step > high:
        raise _refused(part, item, f"a step of {step} from {low} leads past {high}", _alone(part, low))
    return f"{text}/{step}"


def _alone(part: Field, low: int) -> str:
    return f"{low}, or {low}#1 for the first one of the month" if part is WEEKDAY else str(low)


def _refuse_start_with_step(part: Field, item: str, low: int, step: int) -> str:
    """`5/15` means 5 to one cron, 5,20,35,50 to another; after `0/15` the star rule would not hold."""
    if low + step > part.end:
        instead = str(low)
    else:
        instead = f"*/{step}" if low == part.low else f"{low}-{part.end}/{step}"
    raise _refused(part, item, "a step without a range is read differently by every cron", instead)


def _forwards(part: Field, low: int, high: int, step: int | None) -> str:
    """The values of a range that runs over the end of its cycle, as a list."""
    size = part.end - part.low + 1
    low = part.low + (low - part.low) % size
    if low <= high:
        return str(low) if low == high else f"{low}-{high}"
    if step in (None, 1):
        upper = str(low) if low == part.end else f"{low}-{part.end}"
        lower = str(high) if high == part.low else f"{part.low}-{high}"
        return f"{upper},{lower}"
    offsets = range(low - part.low, high - part.low + size + 1, step or 1)
    return ",".join(str(part.low + offset % size) for offset in offsets)


def _number(part: Field, word: str) -> int:
    if word in part.names:
        return part.names[word]
    if not word.isdigit():
        raise _refused(part, word, *_why_no_word(part, word))
    value = int(word)
    if not part.low <= value <= part.high:
        why = f"it is out of range, {part.name} is {part.low} to {part.high}"
        raise _refused(part, word, why, "0 for midnight" if part is HOUR and value == 24 else None)
    return value


def _why_no_word(part: Field, word: str) -> tuple[str, str | None]:
    if word in ("R", "H"):
        return (
            "every worker would compute another time; jitter spreads schedules",
            f"a number, like {part.low}",
        )
    if part.names and word[:3] in part.names:
        return "names have three letters", word[:3]
    return f"it is no {'name or ' if part.names else ''}number", None


def _refused(part: Field, item: str, why: str, instead: str | None = None) -> ValidationError:
    shown = item[:_SHOWN] or "nothing"
    return wrong(f"{part.name} {shown}: {why}{f'; write {instead}' if instead else ''}")
