"""Find handlers: entry points of installed packages and modules named in the configuration.

A plugin that cannot be imported is reported and left out; the others go on. Two handlers of one job type are
refused, naming both packages, because which of them would run must never depend on luck.
"""

from __future__ import annotations

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


def _loaded(load: Callable[[], T]) -> T:
    try:
        return load()
    except SystemExit as error:
        # A module that is a script calls sys.exit() where it should not; that is an error like any other.
        raise ImportError(f"it called sys.exit({error.code!r}) on import") from error


def _from_entry_point(point: EntryPoint) -> list[Plugin]:
    spec = _loaded(point.load)
    if not isinstance(spec, HandlerSpec):
        raise TypeError(f"{point.value} is a {type(spec).__name__}, not made by @handler")
    if spec.job_type != point.name:
        raise TypeError(
            f"the entry point is named {point.name!r} but the handler's job type is {spec.job_type!r}"
        )
    dist = point.dist
    return [Plugin(spec, dist.name if dist else "?", dist.version if dist else "?", point.value)]


def _from_module(name: str) -> list[Plugin]:
    module = _loaded(lambda: import_module(name))
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
