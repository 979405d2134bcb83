"""The hint line: which keys do something now. `? help` comes first, so that no width cuts it off."""

from __future__ import annotations

from collections.abc import Iterable

from jobdeck_tui.actions import HELP, Action, Situation
from jobdeck_tui.render.spans import Line, line_width


def hint_line(actions: Iterable[Action], situation: Situation, width: int) -> Line:
    """As many whole hints as fit; actions that would do nothing now are left out."""
    out: list[tuple[str, str]] = []
    for action in (HELP, *actions):
        if not action.label or not action.offered(situation):
            continue
        hint = ((("  " if out else " ") + action.first_key, "key"), (f" {action.label}", "dim"))
        if line_width((*out, *hint)) > width:
            break
        out.extend(hint)
    return tuple(out)
