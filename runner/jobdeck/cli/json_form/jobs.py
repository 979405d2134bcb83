"""Saved jobs and job types as JSON."""

from __future__ import annotations

from collections.abc import Sequence

from jobdeck.cli.json_form.values import Json, id_text, iso
from jobdeck.ids import show_id
from jobdeck.model import (
    Change,
    Dependency,
    Job,
    JobType,
    JobVersion,
    PlanStep,
)


def type_json(kind: JobType) -> Json:
    """A job type with the JSON Schema of its params."""
    return {
        "name": kind.name,
        "title": kind.title,
        "description": kind.description,
        "category": kind.category,
        "scope": kind.scope,
        "package": kind.package,
        "version": kind.version,
        "labels": list(kind.labels),
        "live_workers": kind.live_workers,
        "defaults": dict(kind.defaults),
        "schema": dict(kind.schema),
    }


def job_json(job: Job) -> Json:
    """A saved job in its newest version."""
    return {
        "id": job.shown_id,
        "slug": job.slug,
        "project": job.project,
        "version": job.version,
        "enabled": job.enabled,
        "definition": dict(job.facts),
        "created_at": iso(job.created_at),
        "created_by": job.created_by,
        "updated_at": iso(job.updated_at),
        "updated_by": job.updated_by,
        "archived_at": iso(job.archived_at),
        "schedule_id": id_text("sch", job.schedule_id),
        "next_fire_at": iso(job.next_fire_at),
        "last_fire_at": iso(job.last_fire_at),
        "schedule_note": job.schedule_note,
        "depends_on": [dependency_json(each) for each in job.depends_on],
        "dependants": [dependency_json(each) for each in job.dependants],
    }


def dependency_json(dependency: Dependency) -> Json:
    """Another job, and how it has to end or is waited for."""
    return {
        "job_id": show_id("job", dependency.job_id),
        "job": dependency.job,
        "project": dependency.project,
        "condition": str(dependency.condition),
        "met_by": id_text("run", dependency.met_run_id),
    }


def version_json(version: JobVersion) -> Json:
    """One version of a job."""
    return {
        "job_id": show_id("job", version.job_id),
        "version": version.version,
        "definition": dict(version.facts),
        "created_at": iso(version.created_at),
        "created_by": version.created_by,
        "note": version.note,
    }


def changes_json(changes: Sequence[Change]) -> list[Json]:
    """Fields that differ."""
    return [change._asdict() for change in changes]


def step_json(step: PlanStep) -> Json:
    """What applying a file does to one job."""
    changes = changes_json(step.changes)
    return {"slug": step.slug, "project": step.project, "action": str(step.action), "changes": changes}
