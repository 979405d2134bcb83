"""The audit never holds a secret, however it was handed over, and whatever became of the act."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from jobdeck.client import Client, guard
from jobdeck.errors import Forbidden, JobdeckError
from jobdeck.ids import new_id
from jobdeck.people import Role
from jobdeck.store.schema import audit
from tests.store.audits import acts
from tests.store.clients import client_of
from tests.store.deck import Deck

SECRET = "whsec_" + "Y2FuYXJ5LXNlY3JldC10aGF0LW11c3Qtbm90LWFwcGVhcg=="


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Roles are read for every operation, so that a test sees a change at once."""
    monkeypatch.setattr(guard, "_FRESH", 0.0)


ROTATIONS: dict[str, Callable[[Client], Awaitable[object]]] = {
    "done": lambda client: client.webhooks.rotate(secret=SECRET),
    "dropping the old": lambda client: client.webhooks.rotate(secret=SECRET, drop_old=True),
    "of an unknown job": lambda client: client.webhooks.rotate(secret=SECRET, job_id=new_id()),
    "a secret that is none": lambda client: client.webhooks.rotate(secret=SECRET[:20] + "!"),
}


@pytest.mark.parametrize("act", ROTATIONS)
@pytest.mark.parametrize("actor", ["ada", "ben", "eve"])
async def test_a_secret_by_keyword(deck: Deck, actor: str, act: str) -> None:
    """Done by an admin, denied to an operator and to a stranger, or failed: its row is there, without it."""
    await client_of(deck).members.add("ada", Role.ADMIN)
    await client_of(deck).members.add("ben", Role.OPERATOR)
    with suppress(JobdeckError):
        await ROTATIONS[act](client_of(deck, actor=actor))
    (row,) = [row for row in await deck.rows(audit) if row["action"] == "webhook.rotate"]
    assert row["outcome"] == ("denied" if actor != "ada" else "done" if act.startswith("d") else "failed")
    assert SECRET[:20] not in str(row)
    assert "webhook_" not in row["targets"]


async def test_an_admin_of_a_moment_ago_rotates_nothing(deck: Deck, monkeypatch: pytest.MonkeyPatch) -> None:
    """The role is looked at again where the secret is stored."""
    monkeypatch.setattr(guard, "_FRESH", 3_600.0)
    ada, ben = client_of(deck), client_of(deck, actor="ben")
    await ada.members.add("ada", Role.ADMIN)
    await ada.members.add("ben", Role.ADMIN)
    await ben.webhooks.rotate()
    await ada.members.set("ben", Role.VIEWER)
    with pytest.raises(Forbidden):
        await ben.webhooks.rotate()
    assert (await acts(deck))[-1] == ("webhook.rotate", "denied", "forbidden")
