"""Runs as JSON, and what people do to them."""

from __future__ import annotations

from collections.abc import Sequence

from jobdeck.bulk import Bulk
from jobdeck.cli.json_form.values import MILLISECOND, Json, id_text, iso, milliseconds
from jobdeck.ids import show_id
from jobdeck.model import (
    Attempt,
    BatchResult,
    CancelReply,
    Kin,
    LogEntry,
    Progress,
    Reason,
    Run,
    RunEvent,
    RunPage,
)


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
        "continuation_of": id_text("run", run.continuation_of),
        "batch_id": id_text("bat", run.batch_id),
        "job_id": id_text("job", run.job_id),
        "job": run.job,
        "job_version": run.job_version,
        "schedule_id": id_text("sch", run.schedule_id),
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
        "project_id": id_text("project", run.project_id),
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
        "parent_run_id": id_text("run", run.parent_run_id),
        "worker_id": id_text("wrk", run.worker_id),
        "created_at": iso(run.created_at),
        "scheduled_at": iso(run.due_at),
        "next_retry_at": iso(run.due_at) if retrying else None,
        "started_at": iso(run.started_at),
        "heartbeat_at": iso(run.heartbeat_at),
        "finished_at": iso(run.finished_at),
        "duration_ms": milliseconds(run.duration),
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
        "worker_id": id_text("wrk", attempt.worker_id),
        "worker": attempt.worker,
        "started_at": iso(attempt.started_at),
        "finished_at": iso(attempt.finished_at),
        "duration_ms": milliseconds(attempt.duration),
        "outcome": attempt.outcome,
        "error": attempt.error,
        "traceback": attempt.traceback,
        "trace": {f"{name}_ms": span / MILLISECOND for name, span in attempt.trace.items()} or None,
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
        "id": id_text("run", result.run_id),
        "idempotency_hit": result.deduplicated,
        "error": None,
    }


def event_json(event: RunEvent) -> Json:
    """One fact of a run's history."""
    return {"at": iso(event.at), "kind": event.kind, "actor": event.actor, "data": dict(event.data)}


def reason_json(reason: Reason) -> Json:
    """One thing that a run waits for."""
    return {"kind": reason.kind, "text": reason.text, "command": reason.command}


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
