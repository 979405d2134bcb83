"""How runs went, as the JSON other programs read (`--json`)."""

from __future__ import annotations

from jobdeck.cli.json_form.runs import run_row_json
from jobdeck.cli.json_form.values import Json, iso
from jobdeck.model import RunPage
from jobdeck.statistics import Health, Outcomes, Statistics


def outcomes_json(outcomes: Outcomes) -> Json:
    """What became of some runs; rates between 0 and 1, null where there are none."""
    return {
        "total_runs": outcomes.total,
        "active_runs": outcomes.active,
        "completed_runs": outcomes.completed,
        "failed_runs": outcomes.failed,
        "timed_out_runs": outcomes.timed_out,
        "crashed_runs": outcomes.crashed,
        "cancelled_runs": outcomes.cancelled,
        "expired_runs": outcomes.expired,
        "success_rate": outcomes.success_rate,
        "avg_duration_secs": outcomes.average_secs,
        "p95_duration_secs": outcomes.p95_secs,
    }


def health_json(health: Health) -> Json:
    """How a job does; `health_score` is null, with a note, where there are not enough runs."""
    return outcomes_json(health.outcomes) | {
        "since": iso(health.since),
        "until": iso(health.until),
        "p95_before_secs": health.p95_before_secs,
        "health_score": health.score,
        "note": "not enough runs" if health.score is None else None,
    }


def statistics_json(found: Statistics) -> Json:
    """How the runs of a team went."""

    def told(outcomes: Outcomes) -> Json:
        return outcomes_json(outcomes) | {"ended_per_hour": found.per_hour(outcomes)}

    groups = {name: told(outcomes) for name, outcomes in found.groups.items()}
    return {
        "since": iso(found.since),
        "until": iso(found.until),
        "total": told(found.total),
        "groups": groups,
    }


def history_json(page: RunPage) -> Json:
    """One page of the runs of a job."""
    names = (
        "id",
        "status",
        "scheduled_at",
        "started_at",
        "finished_at",
        "duration_ms",
        "error",
        "triggered_by",
    )
    rows = [run_row_json(run) for run in page.runs]
    runs = [{name: row[name] for name in names} for row in rows]
    return {"runs": runs, "cursor": page.cursor, "has_more": page.has_more}
