"""Notifiers of packages as they are found: good ones, broken ones, and two of one type."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from jobdeck.delivery import Letter, Unsent
from jobdeck.delivery.package import load_notifiers
from jobdeck.errors import ConfigError
from jobdeck.secret import redact
from jobdeck.secret.names import MASK
from jobdeck.secret.vault import Vault
from jobdeck.settings import Settings
from jobdeck.settings.for_senders import senders_of

SOURCE = """
async def page(message, settings):
    pass

def plain(message, settings):
    pass
"""
Install = Callable[[str, str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install a package of this name with these entry points, one a line."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(name: str, points: str) -> None:
        (tmp_path / f"{name}.py").write_text(SOURCE)
        monkeypatch.delitem(sys.modules, name, raising=False)
        folder = tmp_path / f"{name}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text(f"[jobdeck.notifiers]\n{points}\n")

    return make


def test_broken_ones_are_left_out(install: Install) -> None:
    """Each with its reason; the good one works."""
    install("good_pages", "pager = good_pages:page")
    install("bad_pages", "plain = bad_pages:plain\ngone = bad_pages:gone\nnone = not_there:page")
    found, broken = load_notifiers()
    assert asyncio.iscoroutinefunction(found["pager"])
    reasons = {each.source.split()[2]: each.reason for each in broken}
    assert reasons["plain"] == "TypeError: a notifier is an async function of a Notification and its settings"
    assert reasons["gone"].startswith("AttributeError")
    assert reasons["none"].startswith("ModuleNotFoundError")
    assert set(found) & {"plain", "gone", "none"} == set()


@pytest.mark.parametrize("name", ["pager", "email", "webhook", "callback"])
def test_one_type_is_offered_once(install: Install, name: str) -> None:
    """Which of two would be asked must not depend on luck, and jobdeck's own are taken."""
    install("one_pages", f"{name} = one_pages:page")
    install("two_pages", f"{name} = two_pages:page")
    with pytest.raises(ConfigError, match=f"'{name}' is offered twice"):
        load_notifiers()


SAYS_ALL = """
async def page(message, settings):
    raise ValueError(f"refused: {settings['token']}, {settings['login']['password']}, {settings['area']}")
"""
LETTER = Letter(
    "msg_1",
    "crew",
    '{"type": "run.failed", "timestamp": "2026-01-01T00:00:00Z", "data": {}}',
)


async def test_secrets_of_a_notifier(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """References become values for it alone; whatever it says of them or of a password is masked."""
    install("told_pages", "pager = told_pages:page")
    (tmp_path / "told_pages.py").write_text(SAYS_ALL)
    monkeypatch.setenv("JOBDECK_SECRET_PAGER_TOKEN", "tok-51d0")
    own = {"token": "secret://PAGER_TOKEN", "login": {"password": "pw-77a1"}, "area": "north"}
    settings = Settings(plugin={"pager": own})
    sender = senders_of(settings, Vault())["pager"]()
    with pytest.raises(Unsent) as refused:
        await sender.send(LETTER)
    assert str(refused.value) == f"ValueError: refused: {MASK}, {MASK}, north"
    assert redact("tok-51d0 pw-77a1 north") == f"{MASK} {MASK} north"


def test_a_secret_of_a_notifier_that_is_missing(install: Install) -> None:
    """The worker says so at its start, and which section means it."""
    install("good_pages", "pager = good_pages:page")
    settings = Settings(plugin={"pager": {"token": "secret://NOT_THERE"}})
    with pytest.raises(ConfigError, match=r"\[plugin.pager\]: .*JOBDECK_SECRET_NOT_THERE is not set"):
        senders_of(settings, Vault())
