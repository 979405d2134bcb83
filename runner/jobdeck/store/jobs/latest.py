"""Queued runs whose job has a newer version, and wants them to use it (version_policy latest)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import and_, select, update

from jobdeck.definition import JobDefinition, VersionPolicy, merged_params, parse_definition
from jobdeck.jsonio import dumps
from jobdeck.limits import PARAMS_BYTES
from jobdeck.store.failures import concerns_all
from jobdeck.store.rare_facts import COMMON, RareFacts
from jobdeck.store.schema import job_versions, jobs, runs
from jobdeck.store.transaction import Tx


def with_latest_versions(tx: Tx, rows: Sequence[Any], rare: dict[UUID, RareFacts]) -> list[Any]:
    """The claimed rows, as the newest versions of their jobs have them where those say so; `rare` follows them.

    What the trigger stated itself goes before every version. What was approved stays as it was approved.
    """
    wanted = {facts.job_id for facts in rare.values() if facts.job_id is not None and not facts.approved_hash}
    if not wanted:
        return list(rows)
    query = (
        select(jobs.c.id, jobs.c.version, job_versions.c.definition)
        .join(
            job_versions, and_(job_versions.c.job_id == jobs.c.id, job_versions.c.version == jobs.c.version)
        )
        .where(jobs.c.id.in_(wanted))
    )
    newest = {row.id: row for row in tx.conn.execute(query)}
    return [_moved(tx, row, rare, newest) for row in rows]


def _moved(tx: Tx, row: Any, rare: dict[UUID, RareFacts], newest: Mapping[UUID, Any]) -> Any:
    facts = rare.get(row.id, COMMON)
    job = None if facts.job_id is None else newest.get(facts.job_id)
    if job is None or facts.approved_hash is not None or job.version == facts.job_version:
        return row
    try:
        definition = parse_definition(json.loads(job.definition))
        if not _wants(definition, row):
            return row
        stated = tx.conn.execute(select(runs.c.overrides, runs.c.flight_key).where(runs.c.id == row.id)).one()
        overrides = json.loads(stated.overrides) if stated.overrides else {}
        # A key that was made of the old params would not be that of the new ones.
        if overrides.get("pinned") or stated.flight_key is not None:
            return row
        values = _values(definition, overrides)
    except Exception as error:
        if concerns_all(error):
            raise
        # A definition that cannot be read keeps nothing from running as it was made.
        return row
    values["job_version"] = job.version
    # Whoever the newer version names is told as well.
    told = {"announces": True} if definition.announces else {}
    tx.conn.execute(update(runs).where(runs.c.id == row.id).values(values | told))
    rare[row.id] = facts._replace(**{name: value for name, value in values.items() if name in facts._fields})
    return row._replace(**{name: value for name, value in values.items() if name in row._fields})


def _wants(definition: JobDefinition, row: Any) -> bool:
    """Whether a queued run may move: not to another type, and not past an approval that it would need now."""
    compatible = definition.version_policy is VersionPolicy.LATEST and definition.backwards_compatible
    return compatible and definition.type == row.job_type and not definition.requires_approval


def _values(definition: JobDefinition, overrides: Mapping[str, Any]) -> dict[str, Any]:
    params = merged_params(definition.params, overrides.get("params"))
    values: dict[str, Any] = {"params": dumps(params, what="params", limit=PARAMS_BYTES)}
    stated = overrides.get("options", [])
    if definition.timeout is not None and "timeout" not in stated:
        values["timeout_s"] = definition.timeout.total_seconds()
    if definition.max_attempts is not None and "max_attempts" not in stated:
        values["max_attempts"] = definition.max_attempts
    if definition.backoff is not None and "backoff" not in stated:
        values["backoff"] = json.dumps(definition.backoff.backoff().facts())
    return values
