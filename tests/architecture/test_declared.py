"""Every operation of the client says what it needs: no new one can forget who may do it, or its row in the audit."""

from __future__ import annotations

import inspect

import pytest

from jobdeck.client import Client
from jobdeck.client.guard import acts, needs
from jobdeck.people import Permission
from tests.architecture.operations import apis, operations


def undeclared(api: type) -> list[str]:
    """Operations that say nothing of who may do them."""
    return [f"{api.__name__}.{name}" for name, value in operations(api) if not hasattr(value, "needs")]


@pytest.mark.parametrize("api", apis())
def test_every_operation_says_what_it_needs(api: type) -> None:
    """`@needs(Permission…)` stands over what only looks, `@acts("thing.verb", Permission…)` over what changes it."""
    missing = undeclared(api)
    assert not missing, f"put @needs(...) or @acts(...) of jobdeck.client.guard over: {', '.join(missing)}"


def test_the_client_has_no_other_parts() -> None:
    """What hangs on a client is one of these classes, so none is left out by its name."""
    source = inspect.getsource(Client.__init__)
    named = {line.split("= ")[1].split("(")[0] for line in source.splitlines() if "Api(" in line}
    assert named == {api.__name__ for api in apis()}


def test_acts_are_named_like_each_other() -> None:
    """`thing.verb`, in lower case."""
    names = {getattr(value, "action", "run.cancel") for api in apis() for _, value in operations(api)}
    assert [name for name in names if not name.replace(".", "", 1).isalpha() or "." not in name] == []


def test_a_missing_declaration_would_be_seen() -> None:
    """What is looked for can be found, by its name."""

    class SampleApi:
        @needs(Permission.JOBS_READ)
        async def look(self) -> None: ...

        @acts("sample.change", Permission.ADMIN)
        async def change(self) -> None: ...

        async def forgotten(self) -> None: ...

        def sync(self) -> None: ...

        async def _inner(self) -> None: ...

    assert undeclared(SampleApi) == ["SampleApi.forgotten", "SampleApi.sync"]
