"""Pictures of whole screens, renewed with `scripts/test tests/tui/test_pictures.py --snapshot-update`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from textual.pilot import Pilot

from jobdeck.model import Progress
from jobdeck_tui.app import Console
from jobdeck_tui.feed import Pace
from tests.tui.fake_client import NOW, FakeClient, make_run

Compare = Callable[..., bool]


def console() -> Console:
    """A console on a small team whose time stands still."""
    client = FakeClient()
    for number, status in enumerate(("completed", "failed", "running", "cancelled", "pending", "dead"), 1):
        progress = Progress(number * 30, 200, 0, number, f"Synced {number * 30} users, {number} skipped")
        client.runs.put(make_run(number, status=status, name=f"Sync {number}", progress=progress))
    client.runs.say(make_run(3).id, "page 1", "page 2", "page 3")
    return Console(client, pace=Pace(poll=60, gap=0), now=lambda: NOW)


@pytest.mark.parametrize(
    ("keys", "size"),
    [((), (80, 24)), (("j", "j", "j", "enter"), (80, 24)), (("question_mark",), (80, 24)), ((), (120, 40))],
    ids=["list", "run", "help", "wide-list"],
)
def test_screens_look_as_they_did(
    snap_compare: Compare, keys: tuple[str, ...], size: tuple[int, int]
) -> None:
    """List, run and help at 80x24, the list at 120x40."""

    async def before(pilot: Pilot[Any]) -> None:
        await pilot.pause(0.3)
        for key in keys:
            await pilot.press(key)
        await pilot.pause(0.3)

    assert snap_compare(console(), terminal_size=size, run_before=before)
