"""Params of `http_sync`: where the records come from, how to page through them and where they go."""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, model_validator

from jobdeck import Secret
from jobdeck_handlers.databases.destination import TargetParam
from jobdeck_handlers.headers import Headers

Name: TypeAlias = Annotated[str, Field(min_length=1, max_length=256)]
"""Of a query parameter, a field or a header."""
Path: TypeAlias = Annotated[str, Field(min_length=1, max_length=512)]
"""Dotted path into a JSON body, like `data.items` or `pages.0.next`."""


class _Params(BaseModel, extra="forbid"):
    pass


class NoPages(_Params):
    """One request answers with everything."""

    kind: Literal["none"] = "none"


class PageNumbers(_Params):
    """`?page=1`, `?page=2`, … until the stated total is reached or a page is empty."""

    kind: Literal["page"]
    param: Name = "page"
    start: int = Field(1, ge=0, le=1_000_000)


class Offsets(_Params):
    """`?offset=0&limit=100`, … until the stated total is reached or a page is empty."""

    kind: Literal["offset"]
    offset_param: Name = "offset"
    limit_param: Name = "limit"
    limit: int = Field(100, ge=1, le=100_000)


class Cursors(_Params):
    """Each body holds at `path` the value of `param` for the next page; null or nothing there ends it."""

    kind: Literal["cursor"]
    path: Path
    param: Name = "cursor"


class NextUrls(_Params):
    """Each body holds at `path` the URL of the next page, on the same origin; null or nothing there ends it."""

    kind: Literal["next_url"]
    path: Path = "next"


class LinkHeaders(_Params):
    """Each answer names the next page, on the same origin, in a `Link: <…>; rel="next"` header (RFC 8288)."""

    kind: Literal["link_header"]


Pagination: TypeAlias = Annotated[
    NoPages | PageNumbers | Offsets | Cursors | NextUrls | LinkHeaders, Field(discriminator="kind")
]


def _query_text(value: object) -> object:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if Secret.is_reference(value):
        # Servers put the query into the URLs of next pages and into their logs; it is no place for a secret.
        raise ValueError("a secret goes into headers, not into the query")
    return value


def _own_table(name: str) -> str:
    if name.lower().startswith(("_jobdeck", "sqlite_", "pg_")):
        raise ValueError("begins like a table of the database or of jobdeck itself; use another name")
    return name


TableName: TypeAlias = Annotated[
    str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$"), AfterValidator(_own_table)
]


class SyncParams(_Params):
    """Params of `http_sync`."""

    url: str = Field(max_length=8_192, pattern=r"^https?://", description="First page of the source.")
    headers: Headers = Field(
        {}, description="Request headers; a value secret://NAME is looked up where the worker runs."
    )
    query: dict[Name, Annotated[str, BeforeValidator(_query_text)]] = Field(
        {},
        description="Query parameters of each request; those of pages that are named by a URL come from there.",
    )
    records: Path | None = Field(
        None, description="Dotted path of the list in the body, like data.items; empty: the body is the list."
    )
    pagination: Pagination = Field(NoPages(), description="How to get from one page to the next.")
    key: list[Name] = Field(
        [], max_length=16, description="Fields that identify a record; upsert needs them."
    )
    target: TargetParam = Field(
        None, description="A name under [targets] or a database URL; empty: the project's data file."
    )
    table: TableName = Field(description="Table to fill; made where it is missing.")
    mode: Literal["upsert", "insert", "replace"] = Field(
        "upsert",
        description="upsert: add and update by key. insert: add what is not there. replace: swap all, at the end.",
    )
    since_param: Name | None = Field(
        None,
        description="Query parameter that asks only for records from the newest since_field seen so far.",
    )
    since_field: Path | None = Field(
        None, description="Dotted path in a record of its time or number of change."
    )
    total: Name | None = Field(None, description="Dotted path in the body, or header, that states the total.")
    max_pages: int | None = Field(None, ge=1, description="Stop after so many pages.")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.mode == "upsert" and not self.key:
            raise ValueError("mode upsert needs key: the fields that identify a record")
        if len(set(self.key)) != len(self.key):
            raise ValueError("key names a field twice")
        if (self.since_param is None) != (self.since_field is None):
            raise ValueError("since_param and since_field go together")
        if self.since_param and self.mode == "replace":
            raise ValueError(
                "mode replace needs all records, so it cannot ask only for those since the last sync"
            )
        return self

    @property
    def source_id(self) -> str:
        """What is asked of whom: a mark of how far a sync has come is good for no other question."""
        query = sorted(self.query.items())
        return _digest(f"{self.url}\n{query}\n{self.since_param}\n{self.since_field}")

    @property
    def digest(self) -> str:
        """Equal for equal params: a checkpoint made under others is of no use."""
        return _digest(self.model_dump_json())

    @property
    def flight_key(self) -> str:
        """One sync at a time for each table of a target."""
        if self.target is None:
            return self.table
        target = self.target.reference if isinstance(self.target, Secret) else self.target
        return f"{self.table}@{_digest(target)[:16]}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
