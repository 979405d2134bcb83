"""Params of `llm_batch`: whom to ask, what about which rows, and where the answers go."""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from typing import Annotated, Any, Final, Literal, Self, TypeAlias

from pydantic import AfterValidator, BaseModel, Field, model_validator

from jobdeck import Duration, Secret
from jobdeck_handlers.databases.destination import TargetParam
from jobdeck_handlers.http_sync.params import TableName
from jobdeck_handlers.llm_batch.template import columns_of

ANSWER_COLUMNS: Final = (
    "answer",
    "finish_reason",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "error",
    "model",
    "prompt_hash",
    "run_id",
    "finished_at",
)
"""Columns of the output table beside the key."""


class _Params(BaseModel, extra="forbid"):
    pass


def _usable_schema(schema: dict[str, Any]) -> dict[str, Any]:
    # Here, because it is slow to import and most runs have no schema.
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise ValueError(f"is not a JSON schema: {error.message[:200]}") from None
    _refuse_outside(schema)
    return schema


def _refuse_outside(value: Any) -> None:
    """Raise ValueError for a reference that would have to be fetched."""
    if isinstance(value, dict):
        for name, each in value.items():
            if name in ("$ref", "$dynamicRef") and isinstance(each, str) and not each.startswith("#"):
                raise ValueError(
                    f"refers to {each[:60]!r}; only references inside the schema (#/…) are followed"
                )
            _refuse_outside(each)
    elif isinstance(value, list):
        for each in value:
            _refuse_outside(each)


class JsonObject(_Params):
    """The answer must be a JSON object."""

    type: Literal["json_object"]


class NamedSchema(_Params):
    """A JSON schema as the endpoint wants it."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    description: str | None = None
    # Not called `schema`, which is a method of the base class.
    json_schema: Annotated[dict[str, Any], AfterValidator(_usable_schema)] = Field(alias="schema")
    strict: bool | None = None


class JsonSchema(_Params):
    """The answer must be JSON that fits the schema."""

    type: Literal["json_schema"]
    json_schema: NamedSchema


ResponseFormat: TypeAlias = Annotated[JsonObject | JsonSchema, Field(discriminator="type")]


def _names_columns(prompt: str) -> str:
    if not columns_of(prompt):
        raise ValueError("names no {column}, so that it would be the same for every row")
    return prompt


class BatchParams(_Params):
    """Params of `llm_batch`."""

    base_url: str = Field(
        max_length=2_048,
        pattern=r"^https?://[^?#]+$",
        description="Address of the API, like https://api.example.com/v1; /chat/completions is added to it.",
    )
    api_key: Secret | None = Field(None, description="secret://NAME of the key, sent as a bearer token.")
    model: str = Field(min_length=1, max_length=256, description="Name of the model.")
    prompt: Annotated[str, Field(min_length=1), AfterValidator(_names_columns)] = Field(
        description="What to ask about each row: {column} is replaced by its text; {{ and }} are braces."
    )
    system: str | None = Field(None, min_length=1, description="System prompt, sent as it stands.")
    temperature: float | None = Field(None, ge=0, le=2, description="Empty: the endpoint's default.")
    max_tokens: int | None = Field(None, ge=1, le=10_000_000, description="Longest answer, in tokens.")
    response_format: ResponseFormat | None = Field(
        None, description="json_object, or json_schema with a schema; answers that do not fit are failures."
    )
    table: TableName | None = Field(None, description="Table of the rows; or give file.")
    file: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,254}$")] | None = Field(
        None,
        description="Name of an NDJSON file in the project's own folder, a row as an object in each line.",
    )
    key: str = Field(
        "id",
        pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$",
        description="Column that identifies a row: whole numbers, text or UUIDs.",
    )
    target: TargetParam = Field(
        None,
        description="Database of the table: a name under [targets] or a URL; empty: the project's data file.",
    )
    output: TableName = Field(description="Table for the answers; made where it is missing.")
    output_in: Literal["target", "data_file"] = Field(
        "target", description="Whether that is in the target or in the project's data file."
    )
    concurrency: int = Field(4, ge=1, le=32, description="Requests at the same time.")
    retries: int = Field(
        4, ge=0, le=10, description="How often a request that may pass later is sent again: 5xx, timeouts."
    )
    # The default is written as people write it: this is how forms get to know it, from the JSON schema.
    timeout: Duration = Field(
        "2m",
        gt=timedelta(0),
        le=timedelta(minutes=10),
        validate_default=True,
        description="Longest time for one answer, at most 10m.",
    )
    max_total_tokens: int | None = Field(
        None,
        ge=1,
        description="Ask no more once the run has used so many tokens, as the endpoint counts them.",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.table is None) == (self.file is None):
            raise ValueError("give either table or file")
        if self.table is not None and self.table.lower() == self.output.lower():
            raise ValueError("output is the table that is read; name another one")
        if self.key.lower() in ANSWER_COLUMNS:
            raise ValueError(
                f"key may not be called {self.key}, as a column of the answers is; read a view with another name"
            )
        return self

    @property
    def columns(self) -> list[str]:
        """What the prompt takes from a row."""
        return columns_of(self.prompt)

    @property
    def prompt_hash(self) -> str:
        """Equal for equal questions: all that the answer depends on, beside the row itself."""
        asked = self.model_dump(
            mode="json",
            by_alias=True,
            include={"model", "prompt", "system", "temperature", "max_tokens", "response_format"},
        )
        return _digest(json.dumps(asked, sort_keys=True))

    @property
    def flight_key(self) -> str:
        """One batch at a time for each output table of a database."""
        if self.target is None or self.output_in == "data_file":
            return self.output
        target = self.target.reference if isinstance(self.target, Secret) else self.target
        return f"{self.output}@{_digest(target)[:16]}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()
