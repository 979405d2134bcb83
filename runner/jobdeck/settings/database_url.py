"""The forms in which a database may be named, brought to the one form the store takes."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

_POSTGRES = re.compile(r"^(?:postgres|postgresql|postgresql\+asyncpg)://")
_SQLITE = re.compile(r"^sqlite(?:\+aiosqlite)?://")
_FORMS = "postgresql://USER@HOST/NAME, sqlite:///PATH or a path that ends in .db"
SQLITE = "sqlite:///"
POSTGRES = "postgresql+asyncpg://"


def normalised(url: str) -> str:
    """`postgresql+asyncpg://…` or `sqlite:///` and an absolute path. Raises ValueError, secrets left out."""
    if _POSTGRES.match(url):
        return _postgres(url)
    if _SQLITE.match(url):
        path = _SQLITE.sub("", url, count=1)
        if not path.startswith("/") or len(path) == 1:
            raise ValueError("names no SQLite file; write sqlite:///relative.db or sqlite:////absolute.db")
        return sqlite_url(Path(path[1:]))
    if url.endswith(".db") and "://" not in url:
        return sqlite_url(Path(url))
    raise ValueError(f"not a database jobdeck knows; write {_FORMS}")


def sqlite_url(path: Path) -> str:
    """The URL of a SQLite file; a relative path counts from the working directory. Raises ValueError."""
    if ":memory:" in str(path) or str(path).startswith("file:"):
        raise ValueError("must be a SQLite file, because several processes work on it")
    if "?" in str(path):
        raise ValueError("names a SQLite path with a '?', which a URL cannot carry")
    return SQLITE + str(path.expanduser().absolute())


def sqlite_path(url: str) -> Path | None:
    """The file behind a normalised URL; None for PostgreSQL."""
    return Path(url.removeprefix(SQLITE)) if url.startswith(SQLITE) else None


def shown(url: str) -> str:
    """The URL for people: the password masked, also one given as a query parameter."""
    if not url.startswith(POSTGRES):
        return url
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    name = user.partition(":")
    netloc = f"{name[0]}:***{at}{host}" if name[1] else parts.netloc
    query = re.sub(r"(?i)(password=)[^&]*", r"\1***", parts.query)
    return parts._replace(netloc=netloc, query=query).geturl()


def _postgres(url: str) -> str:
    url = _POSTGRES.sub(POSTGRES, url, count=1)
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ValueError("has a host or port that cannot be read") from None
    if len(parts.path) < 2:
        raise ValueError("names no database; write postgresql://USER@HOST/NAME")
    return url
