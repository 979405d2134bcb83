"""`@handler`: what a declaration becomes, and what cannot be declared."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel, Field

from jobdeck import Backoff, Context, Discard, Growth, Secret, Snooze, ValidationError, handler, limits
from jobdeck.plugins import Plugin
from jobdeck.spec import NoParams
from jobdeck.testing import run_handler


class Params(BaseModel, extra="forbid"):
    """Params of the handlers here."""

    account: str = Field(min_length=1)
    pages: int = 1
    token: Secret | None = None


@handler(
    "sync.v2-x",
    category="sync",
    single_flight=lambda params: params.account,
    max_attempts=7,
    timeout="10m",
    cancel_grace="3s",
    backoff=Backoff(base=1, factor=4, cap=60),
    labels=["ssd", "gpu", "gpu"],
)
async def declared(ctx: Context, params: Params) -> None:
    """Pull things in.

    And more words about it.
    """


def test_a_declaration_says_everything() -> None:
    """Name, model, policies and the first words of the docstring end up in the spec, which cannot be changed."""
    assert (declared.job_type, declared.title, declared.category) == ("sync.v2-x", "Sync.v2-x", "sync")
    assert declared.description == "Pull things in."
    assert (declared.params, declared.is_async, declared.isolation) == (Params, True, "loop")
    assert (declared.timeout, declared.cancel_grace) == (timedelta(minutes=10), timedelta(seconds=3))
    assert (declared.max_attempts, declared.backoff.step(3)) == (7, 16)
    assert declared.labels == ("gpu", "ssd")
    assert declared.reference == "tests.plugins.test_declaration:declared"
    with pytest.raises(dataclasses.FrozenInstanceError):
        declared.job_type = "other"  # type: ignore[misc]


def test_the_defaults() -> None:
    """Without options: three attempts, no timeout, any number at a time, a title made from the name."""

    @handler("revenue_sync")
    def plain(ctx: Context) -> None: ...

    assert (plain.title, plain.category, plain.scope) == ("Revenue sync", "general", "project")
    assert (plain.max_attempts, plain.timeout, plain.single_flight) == (3, timedelta(0), False)
    assert (plain.params, plain.is_async, plain.description) == (NoParams, False, "")
    assert plain.labels == ()


def test_what_is_registered() -> None:
    """`job_type()` carries the JSON schema and the defaults that a client without the package needs."""
    kind = Plugin(declared, "acme", "1.2", declared.reference).job_type()
    assert (kind.name, kind.package, kind.version) == ("sync.v2-x", "acme", "1.2")
    assert kind.labels == ("gpu", "ssd")
    assert kind.defaults == {"max_attempts": 7, "timeout_s": 600.0, "single_flight": True}
    properties = kind.schema["properties"]
    assert properties["account"] == {"minLength": 1, "title": "Account", "type": "string"}
    assert properties["pages"]["default"] == 1
    assert {"format": "secret", "type": "string"}.items() <= properties["token"]["anyOf"][0].items()
    assert (kind.schema["required"], kind.schema["additionalProperties"]) == (["account"], False)


def test_wrong_params_are_explained_in_one_line() -> None:
    """Every wrong field is named, unknown ones too, and no value is repeated."""
    with pytest.raises(ValidationError) as caught:
        declared.parse({"account": "", "pages": "hunter2", "token": "hunter3", "extra": 1})
    words = str(caught.value)
    assert words.startswith("params of sync.v2-x: account: String should have at least 1 character; pages: ")
    assert "; token: a secret is given as secret://NAME" in words
    assert words.endswith("; extra: Extra inputs are not permitted")
    assert "hunter" not in words
    assert caught.value.field == "params"


def test_many_wrong_params_are_counted() -> None:
    """After five the rest is a number."""
    with pytest.raises(ValidationError, match=r"; and 4 more$"):
        declared.parse({"account": "a"} | {f"x{n}": 1 for n in range(9)})


def test_a_handler_without_params_takes_none() -> None:
    """NoParams refuses everything, so that a misspelt -p is seen."""

    @handler("bare")
    async def bare(ctx: Context) -> None: ...

    assert bare.parse({}) == NoParams()
    with pytest.raises(ValidationError, match="params of bare: pages: Extra inputs"):
        bare.parse({"pages": 1})


def test_single_flight_has_a_key() -> None:
    """Off: none; on: one for all; a function: one per value."""

    @handler("any_number")
    async def any_number(ctx: Context, params: Params) -> None: ...

    @handler("one", single_flight=True)
    async def one(ctx: Context, params: Params) -> None: ...

    params = Params(account="a1")
    assert [spec.flight_key(params) for spec in (any_number, one, declared)] == [None, "", "a1"]


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("", {}, "may have letters, digits"),
        ("with space", {}, "job type 'with space' may have"),
        ("-dash", {}, "may have"),
        ("x" * 129, {}, "at most 128"),
        ("newline\n", {}, "may have"),
        ("ok", {"max_attempts": 0}, "max_attempts lies between 1 and 100, not 0"),
        ("ok", {"max_attempts": 101}, "not 101"),
        ("ok", {"timeout": "2d"}, "a timeout is at most 86400 seconds"),
        ("ok", {"timeout": "soon"}, "'soon' is not a duration"),
        ("ok", {"timeout": -1}, "out of range"),
        ("ok", {"timeout": timedelta(seconds=-1)}, "a timeout"),
        ("ok", {"cancel_grace": "never"}, "not a duration"),
        ("ok", {"backoff": Backoff(factor=1e9)}, "factor of a backoff lies between 1 and"),
        ("ok", {"backoff": Backoff(base=-1)}, "base and cap of a backoff"),
        ("ok", {"backoff": Backoff(cap=float("nan"))}, "base and cap of a backoff"),
        ("ok", {"backoff": Backoff(growth=Growth.CUSTOM)}, "a custom backoff has a list of delays"),
        ("ok", {"backoff": Backoff(delays=(1.0,))}, "a custom backoff has a list of delays"),
        (
            "ok",
            {"backoff": Backoff(growth=Growth.CUSTOM, delays=(1.0,) * 101)},
            "at most 100 delays, not 101",
        ),
        ("ok", {"backoff": Backoff(growth=Growth.CUSTOM, delays=(-1.0,))}, "delays of a backoff lie between"),
        ("ok", {"on_error": {"ValueError": Discard}}, "on_error is by types of exceptions"),
        ("ok", {"on_error": {BaseException: Discard}}, "on_error is by types of exceptions"),
        ("ok", {"on_error": {ValueError: "retry"}}, "on_error[ValueError] is Retry, Discard"),
        ("ok", {"on_error": {ValueError: Snooze}}, "on_error[ValueError] is Retry, Discard"),
        ("ok", {"scope": "world"}, "scope is one of project, team, system, not 'world'"),
        ("ok", {"isolation": "thread"}, "isolation is one of loop, process, not 'thread'"),
        ("ok", {"labels": "gpu"}, "labels is a list of names; write labels=('gpu',)"),
        ("ok", {"labels": ("big memory",)}, "label 'big memory' may have letters, digits"),
        ("ok", {"labels": ("x" * 129,)}, "at most 128"),
    ],
)
def test_options_that_cannot_work_are_refused(name: str, options: dict[str, Any], words: str) -> None:
    """At the declaration, in words, and not when the first run comes."""

    async def function(ctx: Context) -> None: ...

    with pytest.raises(ValidationError) as caught:
        handler(name, **options)(function)
    assert words in str(caught.value)


async def none_at_all() -> None: ...
async def too_many(ctx: Context, params: Params, more: int) -> None: ...
async def untyped(ctx, params) -> None: ...  # type: ignore[no-untyped-def]
async def a_dict(ctx: Context, params: dict[str, Any]) -> None: ...
async def by_name(ctx: Context, *, params: Params) -> None: ...
async def unknown(ctx: Context, params: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821
async def yields(ctx: Context) -> Any:
    yield 1


def generates(ctx: Context) -> Any:
    yield 1


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (none_at_all, "takes (ctx) or (ctx, params: Model)"),
        (too_many, "takes (ctx) or (ctx, params: Model)"),
        (by_name, "takes (ctx) or (ctx, params: Model)"),
        (untyped, "needs a pydantic model as its annotation"),
        (a_dict, "needs a pydantic model as its annotation, not dict[str, typing.Any]"),
        (unknown, "the params model of 'ok' cannot be found (name 'Nowhere' is not defined)"),
        (yields, "it cannot yield"),
        (generates, "it cannot yield"),
    ],
)
def test_functions_that_cannot_be_handlers_are_refused(function: Callable[..., Any], words: str) -> None:
    """The message says what a handler looks like."""
    with pytest.raises(ValidationError) as caught:
        handler("ok")(function)
    assert words in str(caught.value)


def test_the_type_of_ctx_may_be_known_to_type_checkers_only() -> None:
    """`if TYPE_CHECKING: from jobdeck import Context` is no hindrance, nor is a result type that is not imported."""

    async def sparse(ctx: OnlyForTypeCheckers, params: Params) -> AlsoUnknown: ...  # type: ignore[name-defined]  # noqa: F821

    assert handler("sparse")(sparse).params is Params


class Callable_:
    """An object that can be called."""

    async def __call__(self, ctx: Context, params: Params) -> str:
        return params.account


async def test_an_object_may_be_a_handler() -> None:
    """One whose `__call__` is async runs on the loop, not in a thread that would give back a coroutine."""
    spec = handler("object")(Callable_())
    assert (spec.is_async, spec.params) == (True, Params)
    assert (await run_handler(spec, {"account": "a1"})).result == "a1"


def test_the_limits_of_names_are_those_of_the_table() -> None:
    """The longest name that fits is accepted."""

    async def function(ctx: Context) -> None: ...

    assert handler("x" * limits.JOB_TYPE_CHARS)(function).job_type == "x" * 128
