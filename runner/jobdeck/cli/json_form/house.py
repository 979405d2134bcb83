"""Workers, the database and its upkeep as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobdeck.cli.json_form.runs import run_json
from jobdeck.cli.json_form.values import Json, iso
from jobdeck.ids import show_id
from jobdeck.model import (
    Job,
    Run,
    Worker,
)

if TYPE_CHECKING:
    from jobdeck.bootstrap import DatabaseStatus
    from jobdeck.store.house.pruning import PruneReport


def worker_json(worker: Worker) -> Json:
    """One runner process."""
    return {
        "id": show_id("wrk", worker.id),
        "host": worker.host,
        "pid": worker.pid,
        "version": worker.version,
        "state": worker.state,
        "queues": list(worker.queues),
        "job_types": list(worker.job_types),
        "labels": list(worker.labels),
        "slots": worker.slots,
        "running": worker.running,
        "finished_runs": worker.finished_runs,
        "started_at": iso(worker.started_at),
        "seen_at": iso(worker.seen_at),
    }


def house_job_json(job: Job, run: Run | None) -> Json:
    """One of jobdeck's own jobs, with its last run."""
    return {
        "job": job.slug,
        "job_type": job.job_type,
        "enabled": job.enabled,
        "next_fire_at": iso(job.next_fire_at),
        "last_run": None if run is None else run_json(run),
    }


def prune_json(report: PruneReport) -> Json:
    """What was dropped, or would be."""
    statuses = {
        str(status): {
            "runs": each.runs,
            "kept_for_secs": each.keep.total_seconds(),
            "oldest_finished_at": iso(each.oldest),
        }
        for status, each in report.by_status.items()
    }
    return {"dry_run": report.dry_run, "runs": report.runs, "kept": report.kept, "statuses": statuses}


def database_json(status: DatabaseStatus) -> Json:
    """Revision of the database."""
    return {
        "database": status.url_shown,
        "dialect": status.dialect,
        "current": status.current,
        "head": status.head,
        "ok": status.ok,
    }
