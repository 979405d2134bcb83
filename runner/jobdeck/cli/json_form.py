"""The one place that turns what the client returns into the JSON other programs read (`--json`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from jobdeck.audit import AuditEntry, AuditReport
from jobdeck.bulk import Bulk
from jobdeck.cli import human
from jobdeck.clock import to_us
from jobdeck.ids import show_id
from jobdeck.model import (
    Attempt,
    BatchResult,
    CancelReply,
    Change,
    Dependency,
    Job,
    JobType,
    JobVersion,
    Kin,
    LogEntry,
    Pause,
    PlanStep,
    Progress,
    Project,
    Reason,
    Run,
    RunEvent,
    RunPage,
    Team,
    Worker,
)
from jobdeck.people import PERMISSIONS, Member
from jobdeck.pull import AckReply, ClaimedWork, ExtendReply, Queue

if TYPE_CHECKING:
    from jobdeck.bootstrap import DatabaseStatus
    from jobdeck.store.house.pruning import PruneReport

Json = dict[str, Any]
_MILLISECOND = timedelta(milliseconds=1)
_in_milliseconds: ContextVar[bool] = ContextVar("times_in_milliseconds", default=False)


@contextmanager
def times_in_milliseconds() -> Iterator[None]:
    """Within the block times are numbers: milliseconds since 1970."""
    token = _in_milliseconds.set(True)
    try:
        yield
    finally:
        _in_milliseconds.reset(token)


def iso(moment: datetime | None) -> str | int | None:
    """A time: ISO 8601 in UTC with milliseconds, or a number."""
    if moment is None or not _in_milliseconds.get():
        return human.iso(moment)
    return to_us(moment) // 1_000


def run_json(run: Run) -> Json:
    """The whole record of a run, with `attempts`."""
    return run_row_json(run) | {
        "params": run.params,
        "request_hash": run.request_hash,
        "approved_at": iso(run.approved_at),
        "approved_by": run.approved_by,
        "idempotency_key": run.idempotency_key,
        "dedupe_key": run.dedupe_key,
        "concurrency_key": run.concurrency_key,
        "callback_url": run.callback_url,
        "deduplicated": run.deduplicated,
        "continuation_of": _id("run", run.continuation_of),
        "batch_id": _id("bat", run.batch_id),
        "job_id": _id("job", run.job_id),
        "job": run.job,
        "job_version": run.job_version,
        "schedule_id": _id("sch", run.schedule_id),
        "environment": run.environment,
        "backoff": run.backoff,
        "lineage_depth": run.lineage_depth,
        "waits": [
            {"run_id": show_id("run", wait.run_id), "condition": wait.condition, "open": wait.open}
            for wait in run.waits
        ],
        "parents": [kin_json(kin) for kin in run.parents],
        "children": [kin_json(kin) for kin in run.children],
        "result": run.result,
        "traceback": run.traceback,
        "metadata": dict(run.metadata),
        "attempts": [attempt_json(attempt) for attempt in run.attempts],
    }


def kin_json(kin: Kin) -> Json:
    """Another run, and its job."""
    return {"run_id": show_id("run", kin.run_id), "job_id": show_id("job", kin.job_id), "job": kin.job}


def run_row_json(run: Run) -> Json:
    """A run as lists show it: everything but what can be large."""
    retrying = run.label == "retrying"
    return {
        "id": run.shown_id,
        "status": str(run.status),
        "label": str(run.label),
        "job_type": run.job_type,
        "name": run.name,
        "category": run.category,
        "team": run.team,
        "team_id": show_id("team", run.team_id),
        "project": run.project,
        "project_id": _id("project", run.project_id),
        "queue": run.queue,
        "priority": run.priority,
        "progress": progress_json(run.progress),
        "error": run.error,
        "failure_kind": str(run.failure_kind) if run.failure_kind else None,
        "attempt": run.attempt,
        "max_attempts": run.max_attempts,
        "retries_remaining": max(run.max_attempts - run.failures, 0),
        "failures": run.failures,
        "crash_count": run.crash_count,
        "timeout_secs": run.timeout_s,
        "trigger_type": run.trigger_type,
        "triggered_by": run.triggered_by,
        "parent_run_id": _id("run", run.parent_run_id),
        "worker_id": _id("wrk", run.worker_id),
        "created_at": iso(run.created_at),
        "scheduled_at": iso(run.due_at),
        "next_retry_at": iso(run.due_at) if retrying else None,
        "started_at": iso(run.started_at),
        "heartbeat_at": iso(run.heartbeat_at),
        "finished_at": iso(run.finished_at),
        "duration_ms": _milliseconds(run.duration),
        "cancel_requested_at": iso(run.cancel_requested_at),
        "cancel_requested_by": run.cancel_requested_by,
        "cancel_reason": run.cancel_reason,
        "held_reason": run.held_reason,
        "expires_at": iso(run.expires_at),
        "requires_approval": run.requires_approval,
        "pinned": run.pinned,
        "notify": run.notify,
        "tags": dict(run.tags),
        "actions": list(run.actions),
        "revision": run.revision,
    }


def progress_json(progress: Progress) -> Json:
    """`completed` is what was processed and neither failed nor was skipped."""
    return {
        "total": progress.total,
        "processed": progress.processed,
        "completed": max(progress.processed - progress.failed - progress.skipped, 0),
        "failed": progress.failed,
        "skipped": progress.skipped,
        "message": progress.message,
    }


def attempt_json(attempt: Attempt) -> Json:
    """One try."""
    return {
        "attempt": attempt.attempt,
        "worker_id": _id("wrk", attempt.worker_id),
        "worker": attempt.worker,
        "started_at": iso(attempt.started_at),
        "finished_at": iso(attempt.finished_at),
        "duration_ms": _milliseconds(attempt.duration),
        "outcome": attempt.outcome,
        "error": attempt.error,
        "traceback": attempt.traceback,
        "trace": {f"{name}_ms": span / _MILLISECOND for name, span in attempt.trace.items()} or None,
    }


def page_json(page: RunPage) -> Json:
    """One page of a list."""
    runs = [run_row_json(run) for run in page.runs]
    return {"runs": runs, "cursor": page.cursor, "has_more": page.has_more}


def entry_json(entry: LogEntry) -> Json:
    """One line of a log."""
    return {
        "timestamp": iso(entry.at),
        "level": entry.level,
        "message": entry.message,
        "attempt": entry.attempt,
        "fields": dict(entry.fields),
    }


def batch_json(results: Sequence[BatchResult]) -> Json:
    """A batch: what became of each item, and how many."""
    rows = [batch_item_json(index, result) for index, result in enumerate(results)]
    kinds = [row["status"] for row in rows]
    return {
        "results": rows,
        "total": len(rows),
        "created": kinds.count("created"),
        "deduplicated": kinds.count("deduplicated"),
        "failed": kinds.count("failed"),
    }


def batch_item_json(index: int, result: BatchResult) -> Json:
    """One item of a batch."""
    if result.error is not None:
        return {"index": index, "status": "failed", "id": None, "error": result.error.details()}
    return {
        "index": index,
        "status": "deduplicated" if result.deduplicated else "created",
        "id": _id("run", result.run_id),
        "idempotency_hit": result.deduplicated,
        "error": None,
    }


def event_json(event: RunEvent) -> Json:
    """One fact of a run's history."""
    return {"at": iso(event.at), "kind": event.kind, "actor": event.actor, "data": dict(event.data)}


def reason_json(reason: Reason) -> Json:
    """One thing that a run waits for."""
    return {"kind": reason.kind, "text": reason.text, "command": reason.command}


def pause_json(pause: Pause) -> Json:
    """What is held back, by whom and why."""
    return {
        "id": show_id("pause", pause.id),
        "kind": str(pause.kind),
        "name": pause.name,
        "reason": pause.reason,
        "actor": pause.actor,
        "at": iso(pause.at),
        "until": iso(pause.until),
    }


def cancel_json(reply: CancelReply) -> Json:
    """What a cancel did."""
    return {
        "id": show_id("run", reply.run_id),
        "status": str(reply.status),
        "cancelled": reply.cancelled,
        "effect": str(reply.effect),
    }


def bulk_json(bulk: Bulk) -> Json:
    """An act on many runs, and how far it is."""
    return {
        "id": bulk.shown_id,
        "kind": str(bulk.kind),
        "state": str(bulk.state),
        "filter": dict(bulk.chosen),
        "requested_by": bulk.requested_by,
        "reason": bulk.reason,
        "created_at": iso(bulk.created_at),
        "started_at": iso(bulk.started_at),
        "finished_at": iso(bulk.finished_at),
        "total": bulk.total,
        "visited": bulk.visited,
        "done": bulk.done,
        "skipped": bulk.skipped,
        "failed": bulk.failed,
        "refused": dict(bulk.refused),
        "samples": [
            {"run_id": show_id("run", each.run_id), "code": each.code, "message": each.message}
            for each in bulk.samples
        ],
    }


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
        "schedule_id": _id("sch", job.schedule_id),
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
        "met_by": _id("run", dependency.met_run_id),
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


def queue_json(queue: Queue) -> Json:
    """A queue."""
    return {
        "name": queue.name,
        "pull": queue.pull,
        "declared": queue.declared,
        "description": queue.description,
        "waiting": queue.waiting,
        "running": queue.running,
        "oldest_due_at": iso(queue.oldest_due_at),
        "max_concurrency": queue.max_concurrency,
        "created_at": iso(queue.created_at),
        "created_by": queue.created_by,
    }


def work_json(work: ClaimedWork) -> Json:
    """A run that a program has claimed."""
    return {
        "id": work.shown_id,
        "run_token": work.token,
        "lease_until": iso(work.lease_until),
        "job_type": work.job_type,
        "queue": work.queue,
        "project": work.project,
        "attempt": work.attempt,
        "params": dict(work.params),
        "resume": work.resume,
    }


def ack_json(reply: AckReply) -> Json:
    """What became of a run that was ended by its token."""
    return {
        "id": show_id("run", reply.run_id),
        "status": str(reply.status),
        "due_at": iso(reply.due_at),
        "cancel_requested": reply.cancel_requested,
    }


def extend_json(reply: ExtendReply) -> Json:
    """Until when a run is its holder's."""
    return {
        "id": show_id("run", reply.run_id),
        "lease_until": iso(reply.lease_until),
        "cancel_requested": reply.cancel_requested,
    }


def team_json(team: Team) -> Json:
    """A team."""
    created = iso(team.created_at)
    return {"id": show_id("team", team.id), "slug": team.slug, "name": team.name, "created_at": created}


def project_json(project: Project) -> Json:
    """A project."""
    return {
        "id": show_id("project", project.id),
        "slug": project.slug,
        "name": project.name,
        "team_id": show_id("team", project.team_id),
        "created_at": iso(project.created_at),
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


def member_json(member: Member) -> Json:
    """A member of a team."""
    return {
        "actor": member.actor,
        "role": member.role,
        "permissions": sorted(PERMISSIONS[member.role]),
        "added_at": iso(member.added_at),
        "added_by": member.added_by,
    }


def audit_json(entry: AuditEntry) -> Json:
    """An act as the audit has it."""
    return {
        "id": entry.id,
        "at": iso(entry.at),
        "actor": entry.actor,
        "session_user": entry.session_user,
        "action": entry.action,
        "outcome": entry.outcome,
        "code": entry.code,
        "count": entry.count,
        "targets": list(entry.targets),
        "reason": entry.reason,
        "before": entry.before,
        "after": entry.after,
    }


def audit_report_json(report: AuditReport) -> Json:
    """Whether the audit is whole."""
    return {
        "ok": report.ok,
        "rows": report.rows,
        "unsealed": report.unsealed,
        "seals": report.seals,
        "head": report.head,
        "faults": [{"seal": fault.seal, "text": fault.text} for fault in report.faults],
    }


def database_json(status: DatabaseStatus) -> Json:
    """Revision of the database."""
    return {
        "database": status.url_shown,
        "dialect": status.dialect,
        "current": status.current,
        "head": status.head,
        "ok": status.ok,
    }


def error_json(details: Mapping[str, object]) -> Json:
    """What `--json` prints on stderr instead of `error: …`."""
    return {"error": dict(details)}


def _id(kind: str, value: UUID | None) -> str | None:
    return None if value is None else show_id(kind, value)


def _milliseconds(span: timedelta | None) -> int | None:
    return None if span is None else round(span.total_seconds() * 1000)
