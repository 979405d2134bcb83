"""Names of columns, made from names of fields that a stranger chose."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from typing import Final

NAME_BYTES: Final = 63
"""Longest name of a column, in bytes of UTF-8: PostgreSQL cuts what is longer."""

# Every table of PostgreSQL has these, so no column may be called so.
_TAKEN: Final = frozenset({"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"})


def column_names(fields: Iterable[str], columns: Collection[str]) -> dict[str, str]:
    """The column for each field: an existing one where there is one for it, else a new name.

    A field whose name can be a column's has it. Others, and those that differ from another field of the page in
    upper and lower case alone (SQLite does not tell these apart), get a name that ends in a digest of their own.
    """
    existing = {name.casefold(): name for name in columns}
    names = {field: field for field in fields if field in columns}
    used = {name.casefold() for name in names}
    for field in fields:
        if field not in names:
            names[field] = _name(field, existing, used)
            used.add(names[field].casefold())
    return names


def _name(field: str, existing: Mapping[str, str], used: Collection[str]) -> str:
    distinct = _distinct(field)
    folded = field.casefold()
    if _tidy(field) == field and folded not in used and distinct.casefold() not in existing:
        return existing.get(folded, field)
    while distinct.casefold() in used:
        # Only a source that means mischief has a field whose name is another's with its digest.
        distinct = _distinct(distinct)
    return distinct


def _tidy(field: str) -> str:
    # Only the beginning of a very long name is looked at; it is cut anyway.
    text = "".join(char if char.isprintable() else "_" for char in field[: NAME_BYTES + 1]).strip()
    name = text.encode()[:NAME_BYTES].decode(errors="ignore").strip() or "unnamed"
    return f"{name}_" if name.lower() in _TAKEN else name


def _distinct(field: str) -> str:
    digest = hashlib.sha256(field.encode(errors="backslashreplace")).hexdigest()[:8]
    return f"{_tidy(field).encode()[: NAME_BYTES - 9].decode(errors='ignore')}_{digest}"
