"""From the schema of a job type to a form, and from the form to params."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field

from jobdeck.secret import Secret
from jobdeck_tui.fields import OPTIONS, Kind, fields_of, read_form, refusals


class Page(BaseModel):
    """A nested model."""

    kind: Literal["page"] = "page"
    start: int = 1


class Params(BaseModel):
    """One field of every kind a form knows."""

    url: str = Field(description="where the records are")
    count: int = 3
    ratio: float | None = None
    mode: Literal["upsert", "insert"] = "upsert"
    verify: bool = True
    strict: bool | None = None
    token: Secret | None = None
    page: Page = Page()
    key: list[str] = Field(default_factory=list)


SCHEMA = Params.model_json_schema()


def test_a_field_for_every_param() -> None:
    """Types, defaults, choices and required marks come from the schema; nested values are JSON."""
    fields = {field.name: field for field in fields_of(SCHEMA)}
    kinds = {name: field.kind for name, field in fields.items()}
    assert kinds == {
        "url": Kind.TEXT,
        "count": Kind.INTEGER,
        "ratio": Kind.NUMBER,
        "mode": Kind.CHOICE,
        "verify": Kind.CHOICE,
        "strict": Kind.CHOICE,
        "token": Kind.TEXT,
        "page": Kind.JSON,
        "key": Kind.JSON,
    }
    assert [field.name for field in fields_of(SCHEMA) if field.required] == ["url"]
    assert (fields["count"].default, fields["verify"].default, fields["strict"].default) == ("3", "true", "")
    assert list(fields["mode"].choices) == ["", "upsert", "insert"]
    assert fields["page"].default == '{"kind": "page", "start": 1}'
    assert "where the records are" in fields["url"].note
    assert "secret://NAME" in fields["token"].note


def test_an_untouched_form_sends_only_what_is_required() -> None:
    """Defaults stay the job type's own: what was not changed is not sent."""
    reading = read_form(fields_of(SCHEMA), {"url": "https://x.test"})
    assert reading.values == {"url": "https://x.test"}
    assert reading.errors == {}


def test_changed_fields_become_typed_values() -> None:
    """Text turns into the values that the model of the handler accepts."""
    texts = {
        "url": "https://x.test",
        "count": "-7",
        "ratio": "1.5e3",
        "mode": "insert",
        "verify": "false",
        "page": '{"kind": "page", "start": 9}',
        "key": '["id"]',
    }
    values = read_form(fields_of(SCHEMA), texts).values
    assert values["count"] == -7
    assert values["ratio"] == 1500.0
    assert values["verify"] is False
    model = Params.model_validate(values)
    assert (model.page.start, model.key, model.mode) == (9, ["id"], "insert")


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("url", " ", "is required"),
        ("count", "many", "not a whole number"),
        ("count", "1.5", "not a whole number"),
        ("ratio", "nan", "not a number"),
        ("count", "9" * 5_000, "not a whole number"),
        ("page", "{", "is not JSON"),
        ("page", "[" * 100_000, "is not JSON"),
    ],
)
def test_a_wrong_field_is_told_at_the_field(name: str, text: str, told: str) -> None:
    """Each error belongs to its field, and nothing is sent for it."""
    reading = read_form(fields_of(SCHEMA), {"url": "https://x.test", name: text})
    assert told in reading.errors[name]
    assert name not in reading.values


def test_given_params_stand_in_the_form() -> None:
    """Triggering a run again begins with its params."""
    given = {"url": "https://old.test", "verify": False, "key": ["a"]}
    fields = {field.name: field.initial for field in fields_of(SCHEMA, given)}
    assert (fields["url"], fields["verify"], fields["key"]) == ("https://old.test", "false", '["a"]')


def test_given_params_are_sent_again() -> None:
    """A value taken over from the run before is sent although nobody changed it in the form."""
    fields = fields_of(SCHEMA, {"url": "https://old.test", "verify": False, "count": 9})
    values = read_form(fields, {field.name: field.initial for field in fields}).values
    assert values == {"url": "https://old.test", "verify": False, "count": 9}


def test_options_of_the_run() -> None:
    """Delay is a duration, priority a number; empty ones are left to the job type."""
    reading = read_form(OPTIONS, {"queue": "slow", "priority": "9", "delay": "5m", "name": ""})
    assert reading.values == {"queue": "slow", "priority": 9, "delay": timedelta(minutes=5)}
    assert "duration" in read_form(OPTIONS, {"delay": "soon"}).errors["delay"]


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"properties": None},
        {"properties": {"a": 1}},
        {"properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": {"$ref": "#/$defs/A"}}},
        {"properties": {"a": {"anyOf": [{"type": "null"}]}}},
        {"properties": {"a": {"enum": []}}, "required": ["a"]},
        {"properties": {"a": {"type": ["string", "null"], "default": {"x": 1}}}},
        {"required": "a", "properties": {"\x1b[31ma": {"type": "string", "description": 7}}},
    ],
)
def test_a_strange_schema_still_gives_a_form(schema: dict[str, Any]) -> None:
    """A schema that no model would make must not take the console down."""
    fields = fields_of(schema)
    read_form(fields, {field.name: field.initial for field in fields})


def test_refusals_find_their_fields() -> None:
    """What the client says about a param is shown at that param."""
    told = refusals(
        "params of http_sync: url: Field required; key.0: Input should be a string", ["url", "key", "mode"]
    )
    assert told == {"url": "Field required", "key": "Input should be a string"}
