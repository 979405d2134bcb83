"""Handlers are found by entry points and by module names; what is wrong with one never hides the others."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobdeck.errors import ConfigError
from jobdeck.plugins import BrokenPlugin, Plugins, load_one, load_plugins

HANDLER = """
from jobdeck import Context, handler

@handler("{name}")
async def {attribute}(ctx: Context) -> str:
    return "{name}"
"""


def module(*handlers: str) -> str:
    """Source of a module with handlers, each `job_type` or `attribute=job_type`."""
    pairs = [tuple(each.split("=")) if "=" in each else (each, each) for each in handlers]
    return "\n".join(HANDLER.format(attribute=attribute, name=name) for attribute, name in pairs)


class Site:
    """A folder on the path into which packages are put, with or without metadata."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def module(self, name: str, source: str) -> None:
        """A module that belongs to no package."""
        (self.folder / f"{name}.py").write_text(source)

    def package(self, name: str, version: str, **entry_points: str) -> None:
        """The metadata of an installed package."""
        info = self.folder / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        lines = "\n".join(f"{key} = {value}" for key, value in entry_points.items())
        (info / "entry_points.txt").write_text(f"[jobdeck.handlers]\n{lines}\n")
        tops = {value.partition(":")[0].partition(".")[0] for value in entry_points.values()}
        (info / "top_level.txt").write_text("\n".join(tops))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """An empty folder on the path; what was imported from it is forgotten afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield Site(tmp_path)
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def reasons(found: Plugins) -> dict[str, str]:
    """Why each broken plugin was left out."""
    return {each.source: each.reason for each in found.broken if "jobdeck_handlers" not in each.source}


def test_entry_points_are_found(site: Site) -> None:
    """With package, version and a reference by which another process can import them."""
    site.module("acme_tasks", module("acme_one", "second=acme_two"))
    site.package("acme-tasks", "3.1", acme_one="acme_tasks:acme_one", acme_two="acme_tasks:second")
    found = load_plugins()
    one, two = found.by_type["acme_one"], found.by_type["acme_two"]
    assert (one.package, one.version, one.reference) == ("acme-tasks", "3.1", "acme_tasks:acme_one")
    assert two.reference == "acme_tasks:second"
    assert reasons(found) == {}


def test_modules_of_the_configuration_are_found(site: Site) -> None:
    """All handlers of a module, from a package with its version or from a loose file."""
    site.module("loose", module("loose_one", "loose_two"))
    site.module("acme_tasks", module("acme_hidden"))
    site.package("acme-tasks", "3.1")
    (site.folder / "acme_tasks-3.1.dist-info" / "top_level.txt").write_text("acme_tasks")
    found = load_plugins(["loose", "acme_tasks"])
    facts = {name: (each.package, each.version, each.reference) for name, each in found.by_type.items()}
    assert facts["loose_one"] == ("loose", "local", "loose:loose_one")
    assert facts["loose_two"] == ("loose", "local", "loose:loose_two")
    assert facts["acme_hidden"] == ("acme-tasks", "3.1", "acme_tasks:acme_hidden")


def test_two_packages_with_one_type_are_refused(site: Site) -> None:
    """Naming both packages and what they offer: which one runs must not depend on luck."""
    site.module("left", module("shared"))
    site.module("right", module("own=shared"))
    site.package("left-jobs", "1.0", shared="left:shared")
    site.package("right-jobs", "2.0", shared="right:own")
    with pytest.raises(ConfigError) as caught:
        load_plugins()
    words = str(caught.value)
    assert "job type 'shared' is offered by both left-jobs (left:shared) and right-jobs (right:own)" in words


def test_a_module_must_not_repeat_a_package(site: Site) -> None:
    """A module of the configuration with a type of an installed package is refused, too."""
    site.module("left", module("shared"))
    site.module("loose", module("shared"))
    site.package("left-jobs", "1.0", shared="left:shared")
    with pytest.raises(ConfigError, match=r"both left-jobs \(left:shared\) and loose \(loose:shared\)"):
        load_plugins(["loose"])


def test_one_handler_by_several_ways_is_one(site: Site) -> None:
    """An entry point and a module that name the same handler, an alias or an import of it are no contradiction."""
    site.module("acme_tasks", module("acme_one") + "\nalias = acme_one\n")
    site.module("facade", "from acme_tasks import acme_one\n")
    site.package("acme-tasks", "3.1", acme_one="acme_tasks:acme_one")
    found = load_plugins(["acme_tasks", "facade"])
    assert found.by_type["acme_one"].package == "acme-tasks"
    assert reasons(found) == {}


BROKEN = {
    "import": ("import no_such_module", "broken:x", "ModuleNotFoundError: No module named 'no_such_module'"),
    "raises": ("raise ValueError('first line\\nsecond line')", "broken:x", "ValueError: first line"),
    "exits": ("import sys; sys.exit('bye')", "broken:x", "ImportError: it called sys.exit('bye') on import"),
    "syntax": ("def broken(:", "broken:x", "SyntaxError: invalid syntax (broken.py, line 1)"),
    "attribute": ("", "broken:x", "AttributeError: module 'broken' has no attribute 'x'"),
    "no module": ("", "elsewhere:x", "ModuleNotFoundError: No module named 'elsewhere'"),
    "function": ("def x(ctx): ...", "broken:x", "TypeError: broken:x is a function, not made by @handler"),
    "name": (
        module("x=another_type"), "broken:x",
        "TypeError: the entry point is named 'broken_one' but the handler's job type is 'another_type'",
    ),
    "declaration": (
        module("x=bad type"), "broken:x",
        "ValidationError: job type 'bad type' may have letters, digits, '_', '.', '-', at most 128",
    ),
    "schema": (
        "from pydantic import BaseModel\nfrom collections.abc import Callable\nfrom jobdeck import handler\n"
        "class P(BaseModel):\n    call: Callable[[], int]\n"
        "@handler('broken_one')\ndef x(ctx, params: P): ...\n",
        "broken:x",
        "PydanticInvalidForJsonSchema: Cannot generate a JsonSchema for core_schema.CallableSchema",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("source", "target", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_broken_plugin_is_reported_and_skipped(site: Site, source: str, target: str, reason: str) -> None:
    """With where it comes from and one line of why; its neighbour is there."""
    site.module("broken", source)
    site.module("fine", module("fine_one"))
    site.package("broken-jobs", "1.0", broken_one=target)
    site.package("fine-jobs", "1.0", fine_one="fine:fine_one")
    found = load_plugins()
    assert "fine_one" in found.by_type
    assert "broken_one" not in found.by_type
    assert reasons(found) == {f"entry point broken_one = {target}": reason}


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        pytest.param("x = 1", "TypeError: it defines no handler made by @handler", id="empty"),
        pytest.param("import sys; sys.exit()", "ImportError: it called sys.exit(None) on import", id="exits"),
        pytest.param(None, "ModuleNotFoundError: No module named 'broken'", id="missing"),
    ],
)
def test_a_broken_module_is_reported_and_skipped(site: Site, source: str | None, reason: str) -> None:
    """A module of the configuration that offers nothing is a mistake, and is said to be one."""
    if source is not None:
        site.module("broken", source)
    site.module("fine", module("fine_one"))
    found = load_plugins(["broken", "fine"])
    assert "fine_one" in found.by_type
    assert BrokenPlugin("module broken", reason) in found.broken


def test_one_type_can_be_loaded_alone(site: Site) -> None:
    """For a client: by entry point or module, without importing the other packages; unknown is None."""
    site.module("acme_tasks", module("acme_one"))
    site.module("broken", "import sys; sys.exit(1)")
    site.module("loose", module("loose_one"))
    site.package("acme-tasks", "3.1", acme_one="acme_tasks:acme_one", acme_broken="broken:x")
    find: Callable[[str], str | None] = lambda name: getattr(load_one(name, ["loose"]), "reference", None)  # noqa: E731
    assert [find(name) for name in ("acme_one", "loose_one", "nowhere")] == [
        "acme_tasks:acme_one", "loose:loose_one", None,
    ]  # fmt: skip
    assert "broken" not in sys.modules
    with pytest.raises(ImportError, match=r"it called sys\.exit"):
        load_one("acme_broken")


def test_the_handlers_shipped_with_jobdeck_are_entry_points_too() -> None:
    """noop and sleep come by the same way as a stranger's, and nothing is broken in this checkout."""
    found = load_plugins()
    assert found.broken == []
    assert {"noop", "sleep"} <= set(found.by_type)
    assert found.by_type["noop"].package == "jobdeck"
