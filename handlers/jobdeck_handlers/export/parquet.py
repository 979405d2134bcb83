"""Parquet, by pyarrow: an extra of jobdeck, loaded where a file is made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Final

from jobdeck import Discard
from jobdeck_handlers.export.rows import Column, Kind, Row
from jobdeck_handlers.export.sink import Sink
from jobdeck_handlers.export.values import TEXTS
from jobdeck_handlers.export.writers import Writer

_GROUP_BYTES: Final = 16 * 1024 * 1024
"""Size of a row group in memory, where it is before it is compressed and written."""
_DIGITS_128: Final = 38
_PARSERS: Final[dict[Kind, Callable[[str], Any]]] = {
    Kind.DATE: date.fromisoformat,
    Kind.TIME: time.fromisoformat,
    Kind.TIMESTAMP: datetime.fromisoformat,
    Kind.TIMESTAMPTZ: datetime.fromisoformat,
}


def load_pyarrow() -> Any:
    """pyarrow, with its part for Parquet. Raises Discard where it is not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise Discard("this worker cannot write Parquet: pip install jobdeck[parquet]") from None
    return pyarrow


class ParquetWriter(Writer):
    """Collects batches until they make a row group."""

    def __init__(self, arrow: Any, file: Sink, columns: Sequence[Column]) -> None:
        self._arrow = arrow
        self._columns = columns
        self._schema = arrow.schema([(column.name, _type(arrow, column)) for column in columns])
        self._file = arrow.parquet.ParquetWriter(file, self._schema)
        self._batches: list[Any] = []
        self._size = 0

    def write(self, rows: Sequence[Row]) -> int:
        arrays = [
            self._array(column, kind, values)
            for column, kind, values in zip(
                self._columns, self._schema.types, zip(*rows, strict=True), strict=True
            )
        ]
        batch = self._arrow.RecordBatch.from_arrays(arrays, schema=self._schema)
        self._batches.append(batch)
        self._size += batch.nbytes
        if self._size >= _GROUP_BYTES:
            self._write_group()
        return int(batch.nbytes)

    def finish(self) -> None:
        self._write_group()
        self._file.close()

    def abandon(self) -> None:
        # It would write its end when it is thrown away.
        with suppress(Exception):
            self._file.close()

    def _write_group(self) -> None:
        if self._batches:
            table = self._arrow.Table.from_batches(self._batches, self._schema)
            self._file.write_table(table, row_group_size=max(1, table.num_rows))
        self._batches = []
        self._size = 0

    def _array(self, column: Column, kind: Any, values: Sequence[Any]) -> Any:
        try:
            return self._arrow.array(_converted(column, values), kind)
        except (ValueError, OverflowError, TypeError, self._arrow.ArrowException) as error:
            raise Discard(
                f"column {column.name} ({column.type}) has a value that Parquet cannot hold; "
                f"select it as text with CAST"
            ) from error


def _converted(column: Column, values: Sequence[Any]) -> Sequence[Any]:
    parse = _PARSERS.get(column.kind)
    if column.kind is Kind.DECIMAL and column.decimal is None:
        parse = TEXTS[Decimal]
    return values if parse is None else [None if value is None else parse(value) for value in values]


def _type(arrow: Any, column: Column) -> Any:
    if column.decimal is not None:
        precision, scale = column.decimal
        return (arrow.decimal128 if precision <= _DIGITS_128 else arrow.decimal256)(precision, scale)
    types = {
        Kind.BOOLEAN: arrow.bool_(),
        Kind.INT16: arrow.int16(),
        Kind.INT32: arrow.int32(),
        Kind.INT64: arrow.int64(),
        Kind.FLOAT32: arrow.float32(),
        Kind.FLOAT64: arrow.float64(),
        Kind.BYTES: arrow.binary(),
        Kind.DATE: arrow.date32(),
        Kind.TIME: arrow.time64("us"),
        Kind.TIMESTAMP: arrow.timestamp("us"),
        Kind.TIMESTAMPTZ: arrow.timestamp("us", "UTC"),
    }
    return types.get(column.kind, arrow.string())
