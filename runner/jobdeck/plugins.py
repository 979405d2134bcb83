"""Find handlers: entry points of installed packages and modules named in the configuration.

A plugin that cannot be imported is reported and left out; the others go on. Two handlers of one job type are
refused, naming both packages, because which of them would run must never depend on luck.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, packages_distributions, version
from typing import TypeVar

from jobdeck.errors import ConfigError
from jobdeck.model import JobType
from jobdeck.spec import HandlerSpec

T = TypeVar("T")
GROUP = "jobdeck.handlers"
CONSOLE_GROUP = "jobdeck.console"


@dataclass(frozen=True, slots=True)
class Plugin:
    """A handler and where it comes from."""

    spec: HandlerSpec
    package: str
    version: str
    reference: str
    """`module:name`, importable in another process."""

    def job_type(self) -> JobType:
        """What is registered in the database."""
        spec = self.spec
        return JobType(
            name=spec.job_type,
            title=spec.title,
            category=spec.category,
            scope=spec.scope,
            schema=spec.schema(),
            defaults={
                "max_attempts": spec.max_attempts,
                "timeout_s": spec.timeout.total_seconds(),
                "single_flight": spec.single_flight,
            },
            package=self.package,
            version=self.version,
            description=spec.description,
            labels=spec.labels,
        )


@dataclass(frozen=True, slots=True)
class BrokenPlugin:
    """A plugin that was left out, and why, in one line."""

    source: str
    reason: str


@dataclass(slots=True)
class Plugins:
    """All handlers of this process by job type, and what could not be loaded."""

    by_type: dict[str, Plugin] = field(default_factory=dict)
    broken: list[BrokenPlugin] = field(default_factory=list)
    left_to_others: dict[str, Plugin] = field(default_factory=dict)
    """Installed here, but not for this worker: it makes their job types known and never runs them."""

    @property
    def installed(self) -> dict[str, Plugin]:
        """Every handler that is installed here, whoever runs it."""
        return self.by_type | self.left_to_others

    def add(self, plugin: Plugin) -> None:
        """Raises ConfigError where another handler has the same job type."""
        other = self.by_type.get(plugin.spec.job_type)
        if other is not None and other.spec is not plugin.spec:
            raise ConfigError(
                f"job type {plugin.spec.job_type!r} is offered by both {other.package} ({other.reference}) and "
                f"{plugin.package} ({plugin.reference}); uninstall one or rename its job type"
            )
        self.by_type.setdefault(plugin.spec.job_type, plugin)


def load_plugins(modules: Sequence[str] = ()) -> Plugins:
    """Import every handler. Raises ConfigError for duplicates; whatever else goes wrong is in `broken`."""
    found = Plugins()
    for point in sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value)):
        _add(found, f"entry point {point.name} = {point.value}", partial(_from_entry_point, point))
    for name in modules:
        _add(found, f"module {name}", partial(_from_module, name))
    return found


def for_worker(plugins: Plugins, types: Sequence[str], labels: Sequence[str]) -> Plugins:
    """What a worker with these labels takes of its handlers; empty `types` means all whose labels it has.

    Raises ConfigError for a type that is not installed or that asks for a label the worker does not have.
    """
    for name in types:
        _require(plugins, name, labels)
    taken = {
        name: plugin
        for name, plugin in plugins.by_type.items()
        if set(plugin.spec.labels) <= set(labels) and (not types or name in types)
    }
    others = {name: plugin for name, plugin in plugins.by_type.items() if name not in taken}
    return Plugins(taken, plugins.broken, others)


def _require(plugins: Plugins, name: str, labels: Sequence[str]) -> None:
    plugin = plugins.by_type.get(name)
    if plugin is None:
        near = difflib.get_close_matches(name, plugins.by_type, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        broken = f"; {len(plugins.broken)} could not be loaded, see: jobdeck doctor" if plugins.broken else ""
        raise ConfigError(
            f"no handler of the job type {name!r} is installed here{hint}{broken}", field="types"
        )
    missing = [label for label in plugin.spec.labels if label not in labels]
    if missing:
        options = " ".join(f"--label {label}" for label in missing)
        raise ConfigError(f"the job type {name} is for workers with {options}; add it", field="labels")


def load_one(job_type: str, modules: Sequence[str] = ()) -> Plugin | None:
    """Import the handler of one job type, touching the other packages no more than needed."""
    for point in entry_points(group=GROUP, name=job_type):
        return _from_entry_point(point)[0]
    return next(
        (plugin for name in modules for plugin in _from_module(name) if plugin.spec.job_type == job_type),
        None,
    )


def _add(found: Plugins, source: str, load: Callable[[], list[Plugin]]) -> None:
    try:
        plugins = load()
        for plugin in plugins:
            # Its params may have no JSON schema, without which a worker cannot register it.
            plugin.job_type()
    except Exception as error:
        # Whatever a stranger's module raises on import must not take the other handlers down.
        found.broken.append(BrokenPlugin(source, f"{type(error).__name__}: {error}".splitlines()[0][:300]))
        return
    for plugin in plugins:
        found.add(plugin)


def loaded(load: Callable[[], T]) -> T:
    """What `load` imports; a module that ends the process on import is one that cannot be imported."""
    try:
        return load()
    except SystemExit as error:
        # A module that is a script calls sys.exit() where it should not; that is an error like any other.
        raise ImportError(f"it called sys.exit({error.code!r}) on import") from error


def _from_entry_point(point: EntryPoint) -> list[Plugin]:
    spec = loaded(point.load)
    if not isinstance(spec, HandlerSpec):
        raise TypeError(f"{point.value} is a {type(spec).__name__}, not made by @handler")
    if spec.job_type != point.name:
        raise TypeError(
            f"the entry point is named {point.name!r} but the handler's job type is {spec.job_type!r}"
        )
    dist = point.dist
    return [Plugin(spec, dist.name if dist else "?", dist.version if dist else "?", point.value)]


def _from_module(name: str) -> list[Plugin]:
    module = loaded(lambda: import_module(name))
    specs = {attr: value for attr, value in vars(module).items() if isinstance(value, HandlerSpec)}
    if not specs:
        raise TypeError("it defines no handler made by @handler")
    package, released = _package_of(name)
    return [Plugin(spec, package, released, f"{name}:{attr}") for attr, spec in specs.items()]


def _package_of(module: str) -> tuple[str, str]:
    top = module.partition(".")[0]
    names = packages_distributions().get(top, [])
    try:
        return (names[0], version(names[0])) if names else (top, "local")
    except PackageNotFoundError:
        return top, "local"


def load_console() -> Callable[..., int]:
    """The console: `run_console(settings, *, filter_text=None) -> exit code`. Raises ConfigError."""
    for point in entry_points(group=CONSOLE_GROUP):
        console: Callable[..., int] = point.load()
        return console
    raise ConfigError("no console is installed; install jobdeck whole: pip install jobdeck")
