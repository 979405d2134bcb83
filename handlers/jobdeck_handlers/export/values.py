"""Values as text: the same in every format that is text."""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final


def _float(value: float) -> str:
    """As many digits as tell it from every other; `NaN`, `Infinity` and `-Infinity` like both databases' texts."""
    if math.isfinite(value):
        return repr(value)
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _decimal(value: Decimal) -> str:
    # Every digit, and no exponent.
    return format(value, "f") if value.is_finite() else _float(float(value))


TEXTS: Final[dict[type, Callable[[Any], str]]] = {
    bool: lambda value: "true" if value else "false",
    int: str,
    float: _float,
    Decimal: _decimal,
    bytes: lambda value: b64encode(value).decode(),
}
