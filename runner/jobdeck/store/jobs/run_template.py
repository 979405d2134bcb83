"""A run made beforehand, as text: everything that enqueue needs but its id and who started it."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from pydantic import TypeAdapter
from pydantic_core import to_jsonable_python

from jobdeck.errors import ValidationError
from jobdeck.ids import new_id
from jobdeck.model import JobRef, NewRun, RunExtras
from jobdeck.states import TriggerType


def template_text(run: NewRun) -> str:
    """The run as it is stored until it is started."""
    facts = {**_stated(run), "extras": _stated(run.extras or RunExtras())}
    if run.extras is not None and run.extras.job is not None:
        facts["extras"]["job"] = _stated(run.extras.job)
    return json.dumps(to_jsonable_python(facts), ensure_ascii=False, separators=(",", ":"))


def _stated(values: NewRun | RunExtras | JobRef) -> dict[str, Any]:
    """What is not as it would be anyway: so one of an older jobdeck can be read by a newer one."""
    usual = values._field_defaults
    return {
        name: value for name, value in values._asdict().items() if name not in usual or usual[name] != value
    }


def run_of(text: str, *, version: int, triggered_by: str) -> NewRun:
    """A new run of the template. Raises ValidationError for one that cannot be read."""
    try:
        run: NewRun = _adapter().validate_python(json.loads(text))
        assert run.extras is not None and run.extras.job is not None  # noqa: S101, PT018  stored so
    except Exception:  # Rows are hostile: deeper than Python can read, bytes for a text.
        raise ValidationError("its template cannot be read; update the job with this jobdeck") from None
    job = run.extras.job._replace(version=version)
    return run._replace(
        id=new_id(),
        trigger_type=TriggerType.DEPENDENCY,
        triggered_by=triggered_by,
        extras=run.extras._replace(job=job),
    )


@cache
def _adapter() -> TypeAdapter[NewRun]:
    return TypeAdapter(NewRun)
