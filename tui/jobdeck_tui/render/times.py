"""Times for people: ages that do not tick every second, durations, clock times."""

from __future__ import annotations

from datetime import datetime, timedelta

_STEP = 10
"""Seconds between two changes of an age under a minute: a list of ages must not repaint every second."""


def age(delta: timedelta) -> str:
    """How long ago, in at most four cells: `<10s`, `40s`, `7m`, `3h`, `12d`, `99w`."""
    seconds = max(int(delta.total_seconds()), 0)
    if seconds < _STEP:
        return f"<{_STEP}s"
    if seconds < 60:
        return f"{seconds // _STEP * _STEP}s"
    if seconds < 3_600:
        return f"{seconds // 60}m"
    if seconds < 86_400:
        return f"{seconds // 3_600}h"
    days = seconds // 86_400
    return f"{days}d" if days < 100 else f"{min(days // 7, 999)}w"


def took(delta: timedelta) -> str:
    """How long something took, to a sensible precision: `0.42s`, `12.3s`, `4m05s`, `3h20m`."""
    seconds = max(delta.total_seconds(), 0.0)
    if seconds < 10:
        return f"{seconds:.2f}s"
    if seconds < 60:
        return f"{seconds:.1f}s"
    whole = int(seconds)
    if whole < 3_600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86_400:
        return f"{whole // 3_600}h{whole % 3_600 // 60:02d}m"
    return f"{whole // 86_400}d{whole % 86_400 // 3_600:02d}h"


def clock(moment: datetime) -> str:
    """Time of day in the operator's zone, `14:03:27`."""
    return moment.astimezone().strftime("%H:%M:%S")


def stamp(moment: datetime, now: datetime) -> str:
    """A time as short as it stays clear: time of day for today, else with the date."""
    local = moment.astimezone()
    if local.date() == now.astimezone().date():
        return local.strftime("%H:%M:%S")
    return local.strftime("%Y-%m-%d %H:%M:%S")
