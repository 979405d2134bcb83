"""Filters of lists as they may reach a database: text it can compare, times that are points in time."""

from __future__ import annotations

from jobdeck import jsonio, limits
from jobdeck.errors import ValidationError
from jobdeck.model import RunFilter
from jobdeck.states import TriggerType
from jobdeck.text import quoted

_TEXTS = ("job_type", "queue", "category", "project", "text")


def check_filter(chosen: RunFilter) -> None:
    """Raises ValidationError that names the part."""
    for name in _TEXTS:
        value = getattr(chosen, name)
        if value is None:
            continue
        if len(value) > limits.FILTER_CHARS:
            raise ValidationError(
                f"{name} of a filter has at most {limits.FILTER_CHARS} characters, not {len(value):,}",
                field=name,
            )
        jsonio.check(value, what=name)
    if chosen.trigger_type is not None and chosen.trigger_type not in set(TriggerType):
        known = ", ".join(TriggerType)
        shown = quoted(chosen.trigger_type, 40)
        raise ValidationError(f"{shown} is no kind of trigger; choose from {known}", field="trigger_type")
    for name in ("since", "until"):
        moment = getattr(chosen, name)
        if moment is not None and moment.tzinfo is None:
            raise ValidationError(f"{name} needs a time zone", field=name)
