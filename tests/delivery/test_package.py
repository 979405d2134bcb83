"""Notifiers of packages as they are found: good ones, broken ones, and two of one type."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from jobdeck.delivery.package import load_notifiers
from jobdeck.errors import ConfigError

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
