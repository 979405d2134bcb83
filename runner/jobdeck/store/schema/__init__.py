"""The tables. Times are integer microseconds since 1970 UTC by the database's clock; JSON is text."""

from __future__ import annotations

from jobdeck.store.schema.attempts import attempts, checkpoints, leases, run_events, run_logs
from jobdeck.store.schema.audit import APPEND_ONLY, audit, audit_seals, audit_unsealed
from jobdeck.store.schema.base import metadata
from jobdeck.store.schema.bookkeeping import commit_marks, run_counts
from jobdeck.store.schema.bulk import OPEN_BULK, bulk_operations, bulk_steps
from jobdeck.store.schema.chains import job_dependencies, job_templates, run_parents
from jobdeck.store.schema.control import gates, pauses, queues, rate_uses, rates
from jobdeck.store.schema.epochs import store_epochs
from jobdeck.store.schema.fleet import job_types, workers
from jobdeck.store.schema.jobs import job_versions, jobs, schedules
from jobdeck.store.schema.keys_and_waits import run_keys, run_waits
from jobdeck.store.schema.outbox import disabled_webhooks, outbox, webhook_secrets
from jobdeck.store.schema.people import members
from jobdeck.store.schema.pull import acks
from jobdeck.store.schema.runs import (
    EXPIRES,
    GATED,
    HOLDS_DEDUPE,
    HOLDS_FLIGHT,
    LISTED,
    OF_JOB,
    ORDINARY,
    runs,
)
from jobdeck.store.schema.scopes import projects, teams

__all__ = [
    "APPEND_ONLY",
    "EXPIRES",
    "GATED",
    "HOLDS_DEDUPE",
    "HOLDS_FLIGHT",
    "LISTED",
    "OF_JOB",
    "OPEN_BULK",
    "ORDINARY",
    "acks",
    "attempts",
    "audit",
    "audit_seals",
    "audit_unsealed",
    "bulk_operations",
    "bulk_steps",
    "checkpoints",
    "commit_marks",
    "disabled_webhooks",
    "gates",
    "job_dependencies",
    "job_templates",
    "job_types",
    "job_versions",
    "jobs",
    "leases",
    "members",
    "metadata",
    "outbox",
    "pauses",
    "projects",
    "queues",
    "rate_uses",
    "rates",
    "run_counts",
    "run_events",
    "run_keys",
    "run_logs",
    "run_parents",
    "run_waits",
    "runs",
    "schedules",
    "store_epochs",
    "teams",
    "webhook_secrets",
    "workers",
]
