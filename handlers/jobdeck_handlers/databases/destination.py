"""Which database a sync writes to. jobdeck's own is never one."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias
from urllib.parse import quote

from pydantic import BeforeValidator
from sqlalchemy import URL, Connection, inspect, make_url
from sqlalchemy.exc import ArgumentError

from jobdeck import Discard, Secret

_OWN: Final = "jobdeck's own database is never a target"
OWN_TABLES: Final = frozenset({"runs", "leases", "job_types"})
"""Tables that no other program has all of: they show jobdeck's database under whatever name it is reached."""
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}")
# A password that is a reference: postgresql://USER:secret://NAME@HOST/DB.
_PASSWORD: Final = re.compile(r"(?<=:)secret://[A-Za-z0-9_]+(?=@)")
_DRIVERS: Final = {
    "sqlite": "sqlite+aiosqlite",
    "postgresql": "postgresql+asyncpg",
    "postgres": "postgresql+asyncpg",
}
# SQLite keeps these beside a database; written to as databases, they would destroy it.
_COMPANIONS: Final = ("", "-wal", "-shm", "-journal")


def _checked(value: object) -> object:
    if value is None or isinstance(value, Secret):
        return value
    if not isinstance(value, str):
        raise ValueError("is a name under [targets] or a database URL")
    if Secret.is_reference(value):
        return Secret(value)
    if "://" in value:
        try:
            url = make_url(value)
        except (ArgumentError, ValueError):
            raise ValueError("is not a database URL; write it like postgresql://USER@HOST/NAME") from None
        if "password" in url.query or (url.password and not _is_good_reference(url.password)):
            raise ValueError(
                "has a password in clear; write secret://NAME instead of it or of the whole URL, or name a "
                "[targets] entry"
            )
    return value


def _is_good_reference(password: object) -> bool:
    try:
        Secret(str(password))
    except ValueError:
        return False
    return True


TargetParam: TypeAlias = Annotated[Secret | str | None, BeforeValidator(_checked)]
"""A name under [targets], a database URL without a password in clear, a secret with one; None: the data file."""


def destination(target: Secret | str | None, settings: Mapping[str, Any]) -> URL:
    """The database that `target` means, ready for an async engine. Raises Discard for one that may not be used.

    `settings` has `data_file_url`, `targets` (URLs by name), `free_targets` (whether runs may name any URL) and
    `own_database_url`.
    """
    url = _parsed(_chosen(target, settings))
    own = settings.get("own_database_url")
    if own and _same_database(url, _parsed(str(own))):
        raise Discard(_OWN)
    return url


def refuse_own(conn: Connection) -> None:
    """Raise Discard if this is a database of jobdeck."""
    refuse_own_tables(inspect(conn).get_table_names())


def refuse_own_tables(tables: Collection[str]) -> None:
    """Raise Discard if the tables of a database, or of a schema in it, are those of jobdeck."""
    if set(tables) >= OWN_TABLES:
        raise Discard(_OWN)


def _chosen(target: Secret | str | None, settings: Mapping[str, Any]) -> str:
    targets: Mapping[str, str] = settings.get("targets") or {}
    if target is None:
        data_file = settings.get("data_file_url")
        if not data_file:
            raise Discard("this worker has no data file for the project; give a target")
        return str(data_file)
    if isinstance(target, str) and _NAME.fullmatch(target):
        if target not in targets:
            known = ", ".join(sorted(targets)) or "none"
            raise Discard(
                f"no target is called {target}; [targets] of the worker's configuration names {known}"
            )
        return _revealed(lambda: targets[target])
    if not settings.get("free_targets"):
        raise Discard(
            "on this server a target is one of the names under [targets] of its configuration, not a URL"
        )
    return _revealed(lambda: target)


def _revealed(find: Callable[[], Secret | str]) -> str:
    try:
        url = find()
        if not isinstance(url, str) or Secret.is_reference(url):
            return (url if isinstance(url, Secret) else Secret(url)).reveal()
        return _PASSWORD.sub(lambda found: quote(Secret(found[0]).reveal(), safe=""), url)
    except (LookupError, ValueError) as error:
        raise Discard(f"the target's URL: {error.args[0]}") from None


def _parsed(text: str) -> URL:
    try:
        url = make_url(text)
        driver = _DRIVERS[url.drivername.partition("+")[0]]
    except (ArgumentError, ValueError, KeyError):
        raise Discard("the target is not postgresql://USER@HOST/NAME or sqlite:////PATH") from None
    url = url.set(drivername=driver)
    if not url.database or (_is_file(url) and (url.query or url.database.startswith((":", "file:")))):
        raise Discard("the target names no database; write postgresql://USER@HOST/NAME or sqlite:////PATH")
    return url


def _is_file(url: URL) -> bool:
    return url.get_backend_name() == "sqlite"


def _same_database(one: URL, other: URL) -> bool:
    if _is_file(one) != _is_file(other):
        return False
    if _is_file(one):
        return any(_same_file(str(one.database), f"{other.database}{end}") for end in _COMPANIONS)
    return _server(one) == _server(other)


def _same_file(one: str, other: str) -> bool:
    if Path(one).exists() and Path(other).exists():
        return Path(one).samefile(other)
    return os.path.realpath(one) == os.path.realpath(other)


def _server(url: URL) -> tuple[str, int, str]:
    host = url.host or url.query.get("host") or "localhost"
    return str(host).lower(), url.port or 5432, str(url.database)
