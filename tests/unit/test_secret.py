"""Secrets: only references are taken, stored and shown; what was revealed is masked."""

from __future__ import annotations

import base64
import copy
import json
import pickle
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, SecretStr
from pydantic import ValidationError as PydanticError

from jobdeck.secret import Secret, filled, redact, redaction, resolve, variable_of


@pytest.fixture(autouse=True)
def _nothing_revealed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test begins with nothing revealed, and leaves nothing."""
    monkeypatch.setattr(redaction, "_known", redaction.NOTHING)


class Params(BaseModel):
    """Takes a secret, and perhaps another one."""

    token: Secret
    other: Secret | None = None


def test_a_reference_is_what_is_stored_and_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dumping, printing and the schema have the reference or less; the value comes out by `reveal` alone."""
    monkeypatch.setenv("JOBDECK_SECRET_CRM_KEY", "hunter2-hunter2")
    params = Params.model_validate({"token": "secret://CRM_KEY"})
    assert params.model_dump(mode="json") == {"token": "secret://CRM_KEY", "other": None}
    assert params.token.reveal() == "hunter2-hunter2"
    for text in (repr(params), str(params), repr(params.token), f"{params.token}", params.model_dump_json()):
        assert "hunter2" not in text
    field = Params.model_json_schema()["properties"]["token"]
    assert (field["type"], field["format"]) == ("string", "secret")
    assert Params.model_validate_json('{"token":"secret://CRM_KEY"}') == params
    assert Params(token=Secret("secret://CRM_KEY")) == params
    assert hash(params.token) == hash(Secret("secret://CRM_KEY"))
    assert copy.deepcopy(params) == pickle.loads(pickle.dumps(params)) == params


@pytest.mark.parametrize(
    "text",
    ["hunter2", "", "secret://", "secret://1A", "secret://a-b", "secret://A\n", "secret://A B", "secret://A=B", "SECRET://A",
     "secret://" + "A" * 65, "secret://Ä", "secret://A\x00", "secret://../A"],
)  # fmt: skip
def test_a_value_in_clear_is_refused(text: str) -> None:
    """Whatever is no reference is refused in words that do not repeat it."""
    with pytest.raises(PydanticError) as caught:
        Params.model_validate({"token": text})
    (error,) = caught.value.errors(include_input=False, include_url=False)
    assert "hunter2" not in error["msg"]
    with pytest.raises(ValueError, match="never in clear"):
        Secret(text)


def test_a_secret_that_is_not_set() -> None:
    """The error names the variable, so that the operator knows what to set."""
    with pytest.raises(LookupError, match="JOBDECK_SECRET_NOT_THERE is not set"):
        resolve("secret://not_there")


@given(st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,63}", fullmatch=True))
def test_the_variable_of_a_name(name: str) -> None:
    """Upper case, behind a prefix that no other setting has."""
    assert variable_of(name) == f"JOBDECK_SECRET_{name.upper()}"
    assert Secret(f"secret://{name}").reference == f"secret://{name}"


class Plain(BaseModel):
    """Takes texts of several kinds."""

    token: Secret
    either: Secret | str
    name: str = Field(pattern="^h", strict=True)
    hidden: SecretStr
    number: int
    anything: dict[str, Any]


def test_values_take_the_place_of_references(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever a whole text is a reference; a `Secret` field holds the reference on, any other type has the value."""
    monkeypatch.setenv("JOBDECK_SECRET_A", "hunter2-hunter2")
    monkeypatch.setenv("JOBDECK_SECRET_N", "42")
    a = "secret://A"
    raw = {
        "token": a,
        "either": a,
        "name": a,
        "hidden": a,
        "number": "secret://N",
        "anything": {"x": [a, f"<{a}>", 1]},
    }
    params = Plain.model_validate(filled(raw))
    assert params.token == params.either == Secret(a)
    assert (params.name, params.hidden.get_secret_value()) == ("hunter2-hunter2", "hunter2-hunter2")
    assert params.number == 42
    assert params.anything == {"x": ["hunter2-hunter2", f"<{a}>", 1]}
    assert params.token.reveal() == "hunter2-hunter2"
    monkeypatch.setenv("JOBDECK_SECRET_A", "other")
    with pytest.raises(PydanticError):
        Plain.model_validate(filled(raw))


def reveal(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    for name, value in values.items():
        monkeypatch.setenv(f"JOBDECK_SECRET_{name}", value)
        resolve(f"secret://{name}")


def test_what_was_revealed_is_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every occurrence, and only of values that this process has revealed."""
    monkeypatch.setenv("JOBDECK_SECRET_UNSEEN", "sesame-sesame")
    reveal(monkeypatch, A="hunter2!")
    assert redact("key=hunter2!, again hunter2!") == "key=********, again ********"
    assert redact("sesame-sesame") == "sesame-sesame"


def test_values_that_hide_nothing_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty or very short value would mask half the text."""
    reveal(monkeypatch, A="", B="1", C="abc")
    assert redact("1 abc and more") == "1 abc and more"


@pytest.mark.parametrize("names", ["ABC", "CBA", "BCA"])
def test_a_value_inside_another_one(monkeypatch: pytest.MonkeyPatch, names: str) -> None:
    """Where one secret begins or ends like another one, nothing of the longer one is left."""
    values = {"A": "abcd", "B": "abcdefgh", "C": "xxabcdefgh"}
    reveal(monkeypatch, **{name: values[name] for name in names})
    assert redact("xxabcdefgh") == redact("abcdefgh") == redact("abcd") == "********"


def test_lines_and_encodings_of_a_secret_are_masked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that is logged line by line, in base64, in a URL or in JSON shows nothing of itself."""
    value = '-----BEGIN KEY-----\nline+one/of=it\nline "two" of it'
    monkeypatch.setenv("JOBDECK_SECRET_PEM", value)
    assert Secret("secret://PEM").reveal() == value
    encoded = base64.b64encode(value.encode()).decode()
    for said in (*value.splitlines(), encoded, quote(value, safe=""), json.dumps(value)):
        shown = redact(f"<{said}>")
        assert "line" not in shown, shown
        assert "********" in shown
