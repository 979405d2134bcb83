"""Types of PostgreSQL: what kind of column each becomes, and how its values are asked for."""

from __future__ import annotations

from typing import Any, Final

from jobdeck_handlers.export.rows import Column, Kind

_KINDS: Final = {
    "bool": Kind.BOOLEAN,
    "int2": Kind.INT16,
    "int4": Kind.INT32,
    "int8": Kind.INT64,
    "oid": Kind.INT64,
    "float4": Kind.FLOAT32,
    "float8": Kind.FLOAT64,
    "numeric": Kind.DECIMAL,
    "text": Kind.TEXT,
    "varchar": Kind.TEXT,
    "bpchar": Kind.TEXT,
    "bytea": Kind.BYTES,
    "date": Kind.DATE,
    "time": Kind.TIME,
    "timestamp": Kind.TIMESTAMP,
    "timestamptz": Kind.TIMESTAMPTZ,
    "json": Kind.JSON,
    "jsonb": Kind.JSON,
}
# The JSON of these is ISO 8601, which their text is not; and unlike the driver's values it has no bounds.
_ISO: Final = frozenset({"date", "timestamp", "timestamptz"})
_AS_TEXT: Final = frozenset({"time", "json", "jsonb"})


def column_of(name: str, described: Any) -> Column:
    """The column for a type as the driver describes it. What is of no known type is PostgreSQL's text for it."""
    kind = Kind.JSON if _has_parts(described) else _KINDS.get(_known(described), Kind.TEXT)
    return Column(name, described.name, kind)


def selected(name: str, described: Any) -> str:
    """The SQL that gives the values of a column as `Rows` promises them, whatever the driver makes of the type."""
    if _has_parts(described):
        return f"pg_catalog.to_json({name})::text"
    known = _known(described)
    if known in _ISO:
        return f"pg_catalog.to_json({name}) #>> '{{}}'"
    return f"{name}::text" if known in _AS_TEXT or known not in _KINDS else name


def _has_parts(described: Any) -> bool:
    # Types with parts: their JSON says more to other programs than PostgreSQL's own text for them.
    return described.kind in ("array", "composite") or _known(described) == "record"


def _known(described: Any) -> str:
    return str(described.name) if described.schema == "pg_catalog" else ""
