"""The command line that does the same as a key: shown after every action, so that it can be put into a script."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from jobdeck.ids import tail
from jobdeck.limits import DEFAULT_TEAM
from jobdeck.model import Run
from jobdeck_tui.filters import FilterLine


class Commands:
    """Command lines for one team; the default team is not named."""

    def __init__(self, team: str) -> None:
        self._team = [] if team == DEFAULT_TEAM else ["--team", team]

    def _line(self, *words: str) -> str:
        return shlex.join(["jobdeck", *words, *self._team])

    def show(self, run: Run) -> str:
        """Open a run."""
        return self._line("runs", "show", tail(run.shown_id))

    def write(self, verb: str, short_id: str, reason: str = "") -> str:
        """Cancel or retry a run."""
        return self._line("runs", verb, short_id, *(["--reason", reason] if reason else []))

    def trigger(self, job_type: str, params: Mapping[str, Any], options: Mapping[str, str]) -> str:
        """Make a run. Options by their names on the command line."""
        words = ["trigger", job_type]
        if params:
            words += ["--params", json.dumps(params, ensure_ascii=False, separators=(",", ":"))]
        for name, value in options.items():
            words += [f"--{name.replace('_', '-')}", value]
        return self._line(*words)

    def list(self, chosen: FilterLine) -> str:
        """The list under a filter."""
        words = ["runs", "list"]
        if chosen.statuses and chosen.group is not None:
            words += ["--group", chosen.group]
        else:
            words += [word for status in sorted(chosen.statuses) for word in ("--status", status)]
        pairs = (
            ("type", chosen.job_type),
            ("queue", chosen.queue),
            ("category", chosen.category),
            ("in-project", chosen.project),
            ("since", chosen.since),
            ("until", chosen.until),
            ("text", chosen.text),
        )
        for name, value in pairs:
            if value:
                words += [f"--{name}", value]
        return self._line(*words)
