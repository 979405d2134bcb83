"""Params of `export`: what is asked of which database, and the file that is made of it."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Final, Literal, Self, TypeAlias

from pydantic import AfterValidator, BaseModel, Field, model_validator

from jobdeck import Duration
from jobdeck_handlers.databases.destination import TargetParam
from jobdeck_handlers.export.naming import checked_name
from jobdeck_handlers.export.placeholders import names_in

Format: TypeAlias = Literal["csv", "jsonl", "parquet"]
Bound: TypeAlias = bool | int | float | str | None

TIMEOUT_MAX: Final = timedelta(days=1)
MAX_BYTES: Final = 10 * 1024**3
"""Default bound of a file, in bytes: a query that joins too much should not fill the disk of a worker."""


def _query(text: str) -> str:
    query = text.strip().rstrip(";").rstrip()
    if not query:
        raise ValueError("is empty; write one SELECT, or WITH … SELECT")
    if "\x00" in query:
        raise ValueError("has a NUL character")
    return query


class ExportParams(BaseModel, extra="forbid"):
    """Params of `export`."""

    query: Annotated[str, Field(max_length=100_000), AfterValidator(_query)] = Field(
        description="One SELECT, or WITH … SELECT; values are asked for as :name."
    )
    bind: dict[Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")], Bound] = Field(
        {}, description="The value of each :name in the query."
    )
    target: TargetParam = Field(
        None, description="A name under [targets] or a database URL; empty: the project's data file."
    )
    format: Format = Field("csv", description="csv, jsonl (an object a line) or parquet.")
    file: Annotated[str, AfterValidator(checked_name)] = Field(
        "{date}-{run}",
        description="Name in the project's own folder; {date} and {run} are filled in, the ending is added.",
    )
    overwrite: bool = Field(False, description="Replace a file of that name; otherwise it is an error.")
    gzip: bool = Field(False, description="Compress csv and jsonl; parquet is compressed by itself.")
    delimiter: Literal[",", ";", "\t", "|"] = Field(",", description="Between the fields of csv.")
    spreadsheet_safe: bool = Field(
        False, description="In csv, put a ' before text that a spreadsheet would take for a formula."
    )
    count: bool = Field(
        False, description="Count the rows first, so that progress has a total; the query runs twice."
    )
    max_rows: int | None = Field(None, ge=1, description="End with an error where there are more rows.")
    max_bytes: int = Field(
        MAX_BYTES, ge=1, description="End with an error where the file would be larger; default 10 GiB."
    )
    timeout: Duration = Field(
        "15m",
        gt=timedelta(0),
        le=TIMEOUT_MAX,
        validate_default=True,
        description="Longest time for the query and the writing, at most 1d.",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        asked = names_in(self.query)
        if missing := [name for name in asked if name not in self.bind]:
            raise ValueError(f"the query asks for :{missing[0]}, and bind has no value for it")
        if unused := sorted(set(self.bind).difference(asked)):
            raise ValueError(f"bind has a value for {unused[0]}, and the query does not ask for :{unused[0]}")
        if self.gzip and self.format == "parquet":
            raise ValueError("gzip is for csv and jsonl; parquet is compressed by itself")
        if self.format != "csv" and (self.delimiter != "," or self.spreadsheet_safe):
            raise ValueError("delimiter and spreadsheet_safe are for csv")
        return self

    @property
    def ending(self) -> str:
        """What names of such files end in."""
        return f".{self.format}.gz" if self.gzip else f".{self.format}"
