"""The role of a worker: which of the installed handlers it takes, by job type and by label."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from jobdeck import Context, handler
from jobdeck.errors import ConfigError
from jobdeck.plugins import BrokenPlugin, Plugin, Plugins, for_worker


def installed(**labels: Sequence[str]) -> Plugins:
    """Handlers by name, each with the labels it asks for."""
    found = Plugins()
    for name, needed in labels.items():

        @handler(name, labels=needed)
        async def nothing(ctx: Context) -> None: ...

        found.add(Plugin(nothing, "tests", "1.0", f"tests:{name}"))
    return found


FOUND = installed(sync=(), mail=(), embed=("gpu",), train=("gpu", "ssd"))


@pytest.mark.parametrize(
    ("types", "labels", "takes"),
    [
        ((), (), {"sync", "mail"}),
        ((), ("gpu",), {"sync", "mail", "embed"}),
        ((), ("ssd",), {"sync", "mail"}),
        ((), ("ssd", "gpu", "spare"), {"sync", "mail", "embed", "train"}),
        (("mail",), (), {"mail"}),
        (("mail",), ("gpu",), {"mail"}),
        (("mail", "embed"), ("gpu",), {"mail", "embed"}),
    ],
)
def test_what_a_worker_takes(types: Sequence[str], labels: Sequence[str], takes: set[str]) -> None:
    """Types narrow, labels open: all that a type asks for must be offered; the rest is known and left to others."""
    chosen = for_worker(FOUND, types, labels)
    assert set(chosen.by_type) == takes
    assert set(chosen.left_to_others) == set(FOUND.by_type) - takes
    assert chosen.installed == FOUND.by_type


@pytest.mark.parametrize(
    ("types", "labels", "says"),
    [
        (("mial",), (), "no handler of the job type 'mial' is installed here; did you mean mail?"),
        (("mail", "xyz"), (), "no handler of the job type 'xyz' is installed here"),
        (("train",), ("ssd",), "the job type train is for workers with --label gpu; add it"),
        (("train",), (), "the job type train is for workers with --label gpu --label ssd; add it"),
    ],
)
def test_a_role_that_nobody_can_play_is_refused(
    types: Sequence[str], labels: Sequence[str], says: str
) -> None:
    """A type that is not here, or that needs what the worker does not offer, is an error and not an idle worker."""
    with pytest.raises(ConfigError) as caught:
        for_worker(FOUND, types, labels)
    assert str(caught.value) == says


def test_a_type_that_could_not_be_loaded_may_be_the_one_meant() -> None:
    """The error says that something was left out, and where to read why."""
    found = Plugins(dict(FOUND.by_type), [BrokenPlugin("module x", "ImportError: no")])
    with pytest.raises(ConfigError, match=r"installed here; 1 could not be loaded, see: jobdeck doctor$"):
        for_worker(found, ("xyz",), ())
