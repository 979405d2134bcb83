"""Queues, pauses, and runs in the hands of programs, as JSON."""

from __future__ import annotations

from jobdeck.cli.json_form.values import Json, iso
from jobdeck.ids import show_id
from jobdeck.model import (
    Pause,
)
from jobdeck.pull import AckReply, ClaimedWork, ExtendReply, Queue


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
