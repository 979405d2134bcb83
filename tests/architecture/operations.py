"""The operations of the client, as the code has them."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from typing import Any

import jobdeck.client


def apis() -> list[type]:
    """The classes of `jobdeck.client` named `…Api`."""
    names = [each.name for each in pkgutil.iter_modules(jobdeck.client.__path__)]
    modules = [importlib.import_module(f"jobdeck.client.{name}") for name in names]
    found = {
        value
        for module in modules
        for name, value in vars(module).items()
        if inspect.isclass(value) and name.endswith("Api") and name != "Api"
    }
    return sorted(found, key=lambda each: each.__name__)


def operations(api: type) -> Iterator[tuple[str, Any]]:
    """The public functions of a part of the client, sync ones too, and those of its bases."""
    for name, value in inspect.getmembers(api, inspect.isfunction):
        if not name.startswith("_"):
            yield name, value
