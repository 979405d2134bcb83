"""From the list of actions to Textual's bindings."""

from __future__ import annotations

from collections.abc import Iterable

from textual.binding import Binding, BindingType

from jobdeck_tui.actions import Action


def bindings_of(actions: Iterable[Action], *, priority: bool = False) -> list[BindingType]:
    """One binding per action; its id is stable and can be mapped to other keys."""
    return [
        Binding(
            action.keys,
            action.call,
            action.label,
            show=False,
            priority=priority,
            id=".".join(part for part in (action.id, action.argument) if part),
        )
        for action in actions
    ]
