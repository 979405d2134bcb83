"""What a question answers: rows of figures, what they are compared with, and the goals they are held to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from bench.stats import Spread, ratios, spread

Role = Literal["peer", "bare", "jobdeck"]
Values = tuple[float, ...]
"""One value per round."""


@dataclass(frozen=True, slots=True)
class Other:
    """What jobdeck is compared with in the same rounds: a peer, the bare storage, or itself in another case."""

    name: str
    role: Role
    values: Values


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound that the median of the rounds has to keep."""

    text: str
    values: Values
    at_least: float | None = None
    at_most: float | None = None

    @property
    def met(self) -> bool:
        """Whether the median keeps both bounds."""
        reached = spread(self.values).median
        return (self.at_least is None or reached >= self.at_least) and (
            self.at_most is None or reached <= self.at_most
        )


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    what: str
    unit: str
    ours: Values
    """Empty where it could not be measured; the note then says why."""
    others: tuple[Other, ...] = ()
    goals: tuple[Goal, ...] = ()
    note: str = ""
    details: dict[str, Values] = field(default_factory=dict)
    """More figures of the same rounds, for the JSON alone."""

    def held_to(self, *goals: Goal) -> Row:
        """The same row with goals."""
        return replace(self, goals=goals)

    def ratio(self, other: Other) -> Values:
        """Ours in parts of another's, per round."""
        return ratios(self.ours, other.values)

    def other(self, name: str) -> Other | None:
        """What was compared under this name; None where it was not measured."""
        return next((other for other in self.others if other.name == name), None)


def times(row: Row, name: str, factor: float, shown: str | None = None) -> tuple[Goal, ...]:
    """The goal to reach `factor` times another's figure; none where the other was not measured."""
    other = row.other(name)
    if other is None:
        return ()
    return (Goal(f"≥ {factor:g} x {shown or name}", row.ratio(other), at_least=factor),)


def at_most(row: Row, bound: float) -> tuple[Goal, ...]:
    """The goal to stay below a bound in the row's own unit."""
    return (Goal(f"≤ {bound:g} {row.unit}", row.ours, at_most=bound),)


def others(found: Mapping[str, Sequence[float]], *wanted: tuple[str, Role]) -> tuple[Other, ...]:
    """Those of `wanted` that were measured."""
    return tuple(Other(name, role, tuple(found[name])) for name, role in wanted if name in found)


def row_as_json(row: Row) -> dict[str, Any]:
    """Every value of every round, and what the table says of them."""
    return {
        "what": row.what,
        "unit": row.unit,
        "ours": _figure(row.ours),
        "others": [
            {
                "name": other.name,
                "role": other.role,
                **_figure(other.values),
                "ratio": _figure(row.ratio(other)),
            }
            for other in row.others
        ],
        "goals": [{"goal": goal.text, "met": goal.met, **_figure(goal.values)} for goal in row.goals],
        "note": row.note,
        "details": {name: list(values) for name, values in row.details.items()},
    }


def _figure(values: Values) -> dict[str, Any]:
    if not values:
        return {"rounds": []}
    found: Spread = spread(values)
    return {"median": found.median, "min": found.low, "max": found.high, "rounds": list(values)}
