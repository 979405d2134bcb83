"""Declaring a command: its own parameters, plus the options that all commands share, before or after its name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Concatenate, ParamSpec

import typer

from jobdeck.cli.call import Call

P = ParamSpec("P")

COMMON: dict[str, tuple[Any, Any]] = {
    "json": (Annotated[bool, typer.Option("--json", help="Print JSON for programs.")], False),
    "epoch_ms": (
        Annotated[
            bool, typer.Option("--epoch-ms", help="In JSON: times as milliseconds since 1970, not as text.")
        ],
        False,
    ),
    "team": (Annotated[str | None, typer.Option("--team", metavar="NAME", help="Team to work in.")], None),
    "project": (Annotated[str | None, typer.Option("--project", metavar="NAME", help="Project.")], None),
    "config": (
        Annotated[Path | None, typer.Option("--config", metavar="FILE", help="Configuration file.")],
        None,
    ),
    "debug": (Annotated[bool, typer.Option("--debug", help="Show tracebacks of unexpected errors.")], False),
}
"""Name: annotation and default of each option that every command takes."""


def command(
    app: typer.Typer, name: str, *, hidden: bool = False
) -> Callable[[Callable[Concatenate[Call, P], None]], Callable[Concatenate[Call, P], None]]:
    """Register `function(call, …)` as a command; its docstring is the help text."""

    def register(function: Callable[Concatenate[Call, P], None]) -> Callable[Concatenate[Call, P], None]:
        app.command(name, hidden=hidden)(with_common(function))
        return function

    return register


def with_common(function: Callable[..., None]) -> Callable[..., None]:
    """`function` as typer wants it: the first parameter replaced by the shared options."""

    def run(ctx: typer.Context, /, **given: Any) -> None:
        common = {key: given.pop(key) for key in COMMON}
        base: Call = ctx.obj
        ctx.obj = replace(base, **{key: value for key, value in common.items() if value})
        with _times(ctx.obj):
            function(ctx.obj, **given)

    own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
    shared = [_keyword(name, *declared) for name, declared in COMMON.items()]
    context = _keyword("ctx", typer.Context, inspect.Parameter.empty)
    # Keyword-only, because then an option with a default may stand before one without.
    parameters = [context, *(part.replace(kind=inspect.Parameter.KEYWORD_ONLY) for part in own), *shared]
    shim = _Shim(run)
    shim.__signature__ = inspect.Signature(parameters)
    shim.__annotations__ = {part.name: part.annotation for part in parameters}
    shim.__doc__ = function.__doc__
    shim.__name__ = function.__name__
    return shim


def _times(call: Call) -> AbstractContextManager[None]:
    if not call.epoch_ms:
        return nullcontext()
    from jobdeck.cli.json_form.values import times_in_milliseconds

    return times_in_milliseconds()


class _Shim:
    """A callable whose signature may be set freely; typer calls it with keywords alone."""

    __signature__: inspect.Signature
    __name__: str

    def __init__(self, run: Callable[..., None]) -> None:
        self._run = run

    def __call__(self, *, ctx: typer.Context, **given: Any) -> None:
        self._run(ctx, **given)


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
