"""Kinds of column: which one a value needs, which one holds two others, and how a value looks in it."""

from __future__ import annotations

import json
from enum import IntEnum
from typing import Any, Final

from sqlalchemy import JSON, BigInteger, Boolean, Double, Integer, SmallInteger, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeEngine


class Kind(IntEnum):
    """In order of width within the numbers: each of BOOLEAN to INT64 fits into those after it."""

    BOOLEAN = 0
    INT16 = 1
    INT32 = 2
    INT53 = 3
    """An integer that a float holds exactly."""
    INT64 = 4
    FLOAT = 5
    JSON = 6
    TEXT = 7


_BITS: Final = {Kind.INT16: 15, Kind.INT32: 31, Kind.INT53: 53, Kind.INT64: 63}
_TYPES: Final[dict[Kind, TypeEngine[Any]]] = {
    Kind.BOOLEAN: Boolean(),
    Kind.INT16: SmallInteger(),
    Kind.INT32: Integer(),
    Kind.INT53: BigInteger(),
    Kind.INT64: BigInteger(),
    Kind.FLOAT: Double(),
    Kind.JSON: JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql"),
    Kind.TEXT: Text(),
}


def type_of(kind: Kind) -> TypeEngine[Any]:
    """The SQL type in which values of the kind are stored."""
    return _TYPES[kind]


def same_type(one: Kind, other: Kind) -> bool:
    """Whether both are stored in the same SQL type."""
    return type(_TYPES[one]) is type(_TYPES[other])


def for_new_column(kind: Kind) -> Kind:
    """The kind with which a column is made: all integers get 64 bits at once, so that few need widening."""
    return Kind.INT53 if kind in (Kind.INT16, Kind.INT32) else kind


def kind_of(value: Any) -> Kind:
    """The narrowest kind that holds a JSON value other than null."""
    if isinstance(value, bool):
        return Kind.BOOLEAN
    if isinstance(value, int):
        return next((kind for kind, bits in _BITS.items() if value.bit_length() <= bits), Kind.TEXT)
    if isinstance(value, float):
        return Kind.FLOAT
    return Kind.TEXT if isinstance(value, str) else Kind.JSON


def join(one: Kind, other: Kind) -> Kind:
    """The narrowest kind that holds the values of both without loss.

    Nested values and others beside them are JSON. Text and numbers beside each other are text.
    """
    low, high = sorted((one, other))
    if Kind.JSON in (low, high):
        return Kind.JSON
    if low is Kind.INT64 and high is Kind.FLOAT:
        return Kind.TEXT
    return high


def widened(column: Kind, needed: Kind) -> Kind:
    """What a column of one kind becomes so that it also holds the other; text takes everything as it is."""
    return Kind.TEXT if column is Kind.TEXT else join(column, needed)


def as_kind(value: Any, kind: Kind) -> Any:
    """A JSON value that fits the kind, as it is bound and as it is read back."""
    if value is None or kind is Kind.JSON:
        return value
    if kind is Kind.TEXT:
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
    if kind is Kind.FLOAT:
        return float(value)
    return value if kind is Kind.BOOLEAN else int(value)
