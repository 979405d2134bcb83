"""`@handler`: a typed callable becomes a job type. There is no global registry; the decorator returns the spec."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal, TypeVar

import pydantic
from pydantic import BaseModel

from jobdeck import limits
from jobdeck.context import Context
from jobdeck.durations import parse_duration
from jobdeck.errors import ValidationError
from jobdeck.outcome import Discard, Retry, Steering
from jobdeck.retry import Backoff, checked

T = TypeVar("T")
Scope = Literal["project", "team", "system"]
Isolation = Literal["loop", "process"]
Policy = type[Retry] | type[Discard] | Steering | Callable[[Any], Steering | None]
"""What becomes of a run whose handler raised: a steering exception, its class, or a function that gives one."""
OnError = Mapping[type[Exception], Policy]
HandlerFunction = Callable[..., Awaitable[Any]] | Callable[..., Any]


class NoParams(BaseModel, extra="forbid"):
    """The params model of a handler that takes none."""


@dataclass(frozen=True, slots=True)
class HandlerSpec:
    """A job type: the callable, its params model and its policies. Made by `@handler`; immutable."""

    job_type: str
    function: HandlerFunction
    params: type[BaseModel]
    title: str
    category: str
    scope: Scope
    single_flight: bool
    single_flight_key: Callable[[Any], str] | None
    max_attempts: int
    timeout: timedelta
    cancel_grace: timedelta
    backoff: Backoff
    isolation: Isolation
    description: str
    is_async: bool = field(default=True)
    labels: tuple[str, ...] = ()
    """What a worker must offer to take its runs."""
    on_error: OnError = field(default_factory=dict)

    def steer(self, error: Exception) -> Exception:
        """What the handler's policies make of an exception it raised; the exception itself where none is about it.

        The policy of the nearest class counts. One that fails itself is an error like any other.
        """
        if isinstance(error, Steering):
            return error
        for kind in type(error).__mro__:
            if (policy := self.on_error.get(kind)) is not None:
                try:
                    return _steered(policy, error)
                except Exception as failure:
                    failure.__cause__ = error
                    return failure
        return error

    @property
    def reference(self) -> str:
        """`module:name` of the callable, importable in another process."""
        return f"{self.function.__module__}:{getattr(self.function, '__qualname__', '')}"

    def parse(self, raw: dict[str, Any]) -> BaseModel:
        """`raw` as the params model. Raises ValidationError with one line that names every wrong field."""
        try:
            return self.params.model_validate(raw)
        except pydantic.ValidationError as error:
            raise ValidationError(_explain(self.job_type, _errors(error)), field="params") from None

    def check_part(self, raw: dict[str, Any]) -> None:
        """Whether `raw` can be a part of params, to which others are added later. Raises ValidationError as `parse`."""
        try:
            self.params.model_validate(raw)
        except pydantic.ValidationError as error:
            wrong = [item for item in _errors(error) if item["type"] != "missing"]
            if wrong:
                raise ValidationError(_explain(self.job_type, wrong), field="params") from None

    def schema(self) -> dict[str, Any]:
        """JSON Schema of the params, as forms and other programs read it."""
        return self.params.model_json_schema()

    def flight_key(self, params: BaseModel) -> str | None:
        """The key under which only one run of a project may be active, or None where any number may."""
        if not self.single_flight:
            return None
        return self.single_flight_key(params) if self.single_flight_key else ""

    def __call__(self, ctx: Context, params: Any) -> Any:
        return self.function(ctx, params) if self.params is not NoParams else self._call_bare(ctx, params)

    def _call_bare(self, ctx: Context, params: Any) -> Any:
        takes = len(inspect.signature(self.function).parameters)
        return self.function(ctx, params) if takes > 1 else self.function(ctx)


def _steered(policy: Policy, error: Exception) -> Exception:
    words = f"{type(error).__name__}: {error}"
    if isinstance(policy, Steering):
        # Made once for all runs: each gets its own, with what has happened to it.
        steering: Steering | None = policy.with_words(words)
    elif isinstance(policy, type):
        steering = policy(words)
    else:
        steering = policy(error)
    if steering is None:
        return error
    if not isinstance(steering, Steering):
        raise TypeError(f"a policy of on_error gave a {type(steering).__name__}")
    steering.__cause__ = error
    return steering


def handler(
    job_type: str,
    *,
    title: str | None = None,
    category: str = "general",
    scope: Scope = "project",
    single_flight: bool | Callable[[Any], str] = False,
    max_attempts: int = limits.MAX_ATTEMPTS_DEFAULT,
    timeout: str | float | timedelta = 0,
    cancel_grace: str | float | timedelta = limits.CANCEL_GRACE,
    backoff: Backoff | None = None,
    isolation: Isolation = "loop",
    labels: Sequence[str] = (),
    on_error: OnError | None = None,
) -> Callable[[HandlerFunction], HandlerSpec]:
    """Declare a handler: `(ctx)` or `(ctx, params: Model)`, async or not; a sync one runs in a thread.

    `timeout` 0 means none. `single_flight=True` lets one run per project be active; a function of the params
    narrows that to one per key. `isolation="process"` runs each attempt in a child process that can be killed.
    `on_error={NotPaid: Discard, Busy: Snooze("5m"), Limited: lambda e: Retry(after=e.seconds)}` says what becomes of a
    run whose handler raises one of these; after anything else it is tried again by `backoff`.
    `labels=("gpu",)`: its runs are taken only by workers started with all of these labels.
    Raises ValidationError for a declaration that cannot work.
    """

    def declare(function: HandlerFunction) -> HandlerSpec:
        return HandlerSpec(
            job_type=_checked_type(job_type),
            function=function,
            params=_params_model(function, job_type),
            title=title or job_type.replace("_", " ").capitalize(),
            category=category,
            scope=_one_of("scope", scope, Scope),
            single_flight=bool(single_flight),
            single_flight_key=single_flight if callable(single_flight) else None,
            max_attempts=_checked_attempts(max_attempts),
            timeout=_checked_timeout(timeout),
            cancel_grace=parse_duration(cancel_grace),
            backoff=checked(backoff or Backoff()),
            isolation=_one_of("isolation", isolation, Isolation),
            description=inspect.cleandoc(function.__doc__ or "").partition("\n\n")[0],
            is_async=_is_async(function),
            labels=_checked_labels(labels),
            on_error=_checked_policies(on_error),
        )

    return declare


def _checked_type(job_type: str) -> str:
    if not re.fullmatch(limits.JOB_TYPE_PATTERN, job_type):
        raise ValidationError(
            f"job type {job_type[:60]!r} may have letters, digits, '_', '.', '-', at most {limits.JOB_TYPE_CHARS}"
        )
    return job_type


def _checked_labels(labels: Sequence[str]) -> tuple[str, ...]:
    if isinstance(labels, str):
        raise ValidationError(f"labels is a list of names; write labels=({labels[:60]!r},)")
    for label in labels:
        if not re.fullmatch(limits.LABEL_PATTERN, label):
            raise ValidationError(
                f"label {label[:60]!r} may have letters, digits, '_', '-', at most {limits.QUEUE_CHARS}"
            )
    return tuple(sorted(set(labels)))


def _one_of(name: str, value: T, choices: Any) -> T:
    known = typing.get_args(choices)
    if value not in known:
        raise ValidationError(f"{name} is one of {', '.join(known)}, not {value!r}")
    return value


def _checked_attempts(value: int) -> int:
    if not limits.MAX_ATTEMPTS_MIN <= value <= limits.MAX_ATTEMPTS_MAX:
        raise ValidationError(
            f"max_attempts lies between {limits.MAX_ATTEMPTS_MIN} and {limits.MAX_ATTEMPTS_MAX}, not {value}"
        )
    return value


def _checked_timeout(value: str | float | timedelta) -> timedelta:
    timeout = parse_duration(value)
    if not 0 <= timeout.total_seconds() <= limits.TIMEOUT_MAX:
        raise ValidationError(f"a timeout is at most {limits.TIMEOUT_MAX} seconds (0: none), not {value}")
    return timeout


def _checked_policies(on_error: OnError | None) -> OnError:
    for kind, policy in (on_error or {}).items():
        if not (isinstance(kind, type) and issubclass(kind, Exception)):
            raise ValidationError(f"on_error is by types of exceptions, not {kind!r}")
        is_kind = isinstance(policy, type) and issubclass(policy, Discard | Retry)
        if not (
            is_kind or isinstance(policy, Steering) or (callable(policy) and not isinstance(policy, type))
        ):
            raise ValidationError(
                f"on_error[{kind.__name__}] is Retry, Discard, one of Retry(...), Discard(...), Snooze(...), "
                "or a function of the exception that gives one"
            )
    return dict(on_error or {})


def _is_async(function: HandlerFunction) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def _params_model(function: HandlerFunction, job_type: str) -> type[BaseModel]:
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ValidationError(f"the handler of {job_type!r} returns its result, it cannot yield")
    parameters = list(inspect.signature(function).parameters.values())
    if len(parameters) not in (1, 2) or any(each.kind is each.KEYWORD_ONLY for each in parameters):
        raise ValidationError(f"the handler of {job_type!r} takes (ctx) or (ctx, params: Model)")
    if len(parameters) == 1:
        return NoParams
    model = _resolved(function, parameters[1].annotation, job_type)
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise ValidationError(
            f"the second parameter of {job_type!r} needs a pydantic model as its annotation, not {model!r}"
        )
    return model


def _resolved(function: HandlerFunction, annotation: Any, job_type: str) -> Any:
    """What an annotation stands for; that of `ctx`, which may be imported for type checkers alone, is not looked at."""

    def params() -> None: ...

    params.__annotations__ = {"params": annotation}
    try:
        # A function, or an object with a method that is one.
        code = function if inspect.isroutine(function) else type(function).__call__
        names = getattr(inspect.unwrap(code), "__globals__", {})
        return typing.get_type_hints(params, globalns=names)["params"]
    except NameError as error:
        raise ValidationError(
            f"the params model of {job_type!r} cannot be found ({error}); define or import it at the top of the module"
        ) from None


def _errors(error: pydantic.ValidationError) -> list[Any]:
    return [*error.errors(include_url=False, include_input=False)]


def _explain(job_type: str, errors: Sequence[Any]) -> str:
    problems = []
    for item in errors[:5]:
        place = ".".join(str(part) for part in item["loc"]) or "params"
        problems.append(f"{place}: {item['msg'].removeprefix('Value error, ')}")
    more = len(errors) - len(problems)
    return f"params of {job_type}: " + "; ".join(problems) + (f"; and {more} more" if more > 0 else "")
