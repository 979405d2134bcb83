"""Jobs in files: TOML for people and git, one JSON object a line for programs."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from jobdeck import jsonio, limits
from jobdeck.client.job_chains import chain_of
from jobdeck.errors import ValidationError
from jobdeck.model import DependsOn, Job, JobSpec
from jobdeck.states import Condition

_FILE_BYTES = 16 * limits.MIB
# A definition, and room for the slug beside it.
_LINE_BYTES = limits.DEFINITION_BYTES + limits.KIB


def read_files(paths: Sequence[Path]) -> list[JobSpec]:
    """The jobs of TOML files, tables `[jobs.SLUG]`. Raises ValidationError for what is none, or a slug given twice."""
    found: dict[str, JobSpec] = {}
    for path in paths:
        for spec in read_toml(_text(path), str(path)):
            if spec.slug in found:
                raise ValidationError(f"{path}: the job {spec.slug!r} stands in two files", field="file")
            found[spec.slug] = spec
    return list(found.values())


def read_toml(text: str, source: str) -> list[JobSpec]:
    """The jobs of one text. Raises ValidationError."""
    try:
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ValidationError(f"{source} is not valid TOML: {error}", field="file") from None
    jobs = table.pop("jobs", None)
    if table or not isinstance(jobs, dict) or not all(isinstance(each, dict) for each in jobs.values()):
        raise ValidationError(f"{source} has tables [jobs.SLUG] and nothing else", field="file")
    return [spec_of(slug, facts) for slug, facts in jobs.items()]


def spec_of(slug: str, facts: Mapping[str, Any]) -> JobSpec:
    """A job of its fields; `enabled` and `depends_on` are among them, though they are no part of a version.

    Raises ValidationError.
    """
    own = dict(facts)
    enabled = own.pop("enabled", True)
    if not isinstance(enabled, bool):
        raise ValidationError(f"job {slug[:64]}: enabled is true or false", field="enabled")
    return JobSpec(slug, own, enabled, _depends_on(slug, own.pop("depends_on", [])))


def _depends_on(slug: str, stated: Any) -> tuple[DependsOn, ...]:
    try:
        found = [DependsOn(each["job"], Condition(each.get("condition", "completed"))) for each in stated]
        names = [on.job for on in found]
        if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
            raise ValueError
        if any(each.keys() - {"job", "condition"} for each in stated):
            raise ValueError
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ValidationError(
            f"job {slug[:64]}: depends_on is a list of other jobs, each once, as "
            f'{{job = "SLUG", condition = "{"|".join(Condition)}"}}',
            field="depends_on",
        ) from None
    return tuple(found)


def read_lines(path: Path) -> list[JobSpec]:
    """The jobs of a file with a JSON object on each line, `slug` among its fields. Raises ValidationError."""
    specs = []
    for number, line in enumerate(_text(path).split("\n"), 1):
        if not line.strip():
            continue
        facts = jsonio.loads(line, what=f"line {number}", limit=_LINE_BYTES)
        slug = facts.pop("slug", None) if isinstance(facts, dict) else None
        if not isinstance(slug, str):
            raise ValidationError(f"line {number} is no JSON object with a slug", field="file")
        specs.append(spec_of(slug, facts))
    return specs


def _text(path: Path) -> str:
    try:
        with nullcontext(sys.stdin.buffer) if str(path) == "-" else path.open("rb") as file:
            data = file.read(_FILE_BYTES + 1)
    except OSError as error:
        raise ValidationError(f"{path} cannot be read: {error.strerror}", field="file") from None
    if len(data) > _FILE_BYTES:
        raise ValidationError(f"{path} has more than {_FILE_BYTES:,} bytes", field="file")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ValidationError(f"{path} is not UTF-8 text", field="file") from None


def toml_text(jobs: Iterable[Job]) -> str:
    """The jobs as a file that `read_toml` reads again."""
    import tomli_w

    table = {job.slug: _facts(job) for job in jobs}
    return tomli_w.dumps({"jobs": table})


def _facts(job: Job) -> dict[str, Any]:
    facts = {name: _without_null(value) for name, value in job.facts.items()} | chain_of(job)
    return facts if job.enabled else {**facts, "enabled": False}


def _without_null(value: Any) -> Any:
    """TOML has no null: an object that holds one is written as the text of its JSON."""
    if isinstance(value, dict) and _has_null(value):
        return jsonio.dumps(value, what="value", limit=limits.DEFINITION_BYTES)
    return value


def _has_null(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_has_null(each) for each in value.values())
    if isinstance(value, list):
        return any(_has_null(each) for each in value)
    return value is None


def assigned(pairs: Iterable[str]) -> dict[str, Any]:
    """`name=value` words, the value in TOML, as a JSON object, or else as text; `params.url=…` reaches into an object.

    Raises ValidationError.
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        path = name.split(".")
        if not equals or not all(path):
            raise ValidationError(
                f"--set takes name=value, the value in TOML or JSON, not {pair[:60]!r}; write an object like "
                f"params.url=https://… or 'params={{shelf = \"A7\", boxes = 5}}'",
                field="set",
            )
        place = found
        for part in path[:-1]:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise ValidationError(
                    f"--set {name[:60]} reaches into something that is no object", field="set"
                )
        place[path[-1]] = _value(text)
    return found


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"] if "\n" not in text else text
    except (tomllib.TOMLDecodeError, RecursionError):
        return _json_object(text) or text


def _json_object(text: str) -> dict[str, Any] | None:
    try:
        found = jsonio.loads(text, what="value", limit=limits.DEFINITION_BYTES)
    except ValidationError:
        return None
    return found if isinstance(found, dict) else None


def merged(facts: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`changes` over `facts`; objects are merged, everything else is replaced."""
    result = dict(facts)
    for name, value in changes.items():
        before = result.get(name)
        both = isinstance(before, Mapping) and isinstance(value, Mapping)
        result[name] = merged(before, value) if both else value  # type: ignore[arg-type]
    return result
