"""`jobdeck workers list`."""

from __future__ import annotations

import typer

from jobdeck.cli.call import Call
from jobdeck.cli.command import command


def register(app: typer.Typer) -> None:
    """Add the command to the tree."""
    part = typer.Typer(help="The runner processes.")
    command(part, "list")(list_workers)
    app.add_typer(part, name="workers")


def list_workers(call: Call) -> None:
    """Show the workers of this installation, live ones first."""
    from datetime import UTC, datetime

    from jobdeck.cli.human import span_text
    from jobdeck.cli.json_form import worker_json
    from jobdeck.cli.output import emit_json, emit_table, say
    from jobdeck.ids import show_id, tail

    found = call.ask(lambda client: client.workers.list())
    if call.json:
        emit_json([worker_json(worker) for worker in found])
        return
    if not found:
        say("no workers; start one with: jobdeck runner")
        return
    now = datetime.now(UTC)
    rows = [
        (
            tail(show_id("wrk", worker.id)),
            worker.label,
            worker.state,
            f"{worker.running}/{worker.slots}",
            str(worker.finished_runs),
            span_text(now - worker.seen_at),
            ", ".join(worker.queues) or "all",
            ", ".join(worker.labels),
            ", ".join(worker.job_types),
        )
        for worker in found
    ]
    emit_table(
        ("ID", "WORKER", "STATE", "SLOTS", "DONE", "SEEN", "QUEUES", "LABELS", "TYPES"),
        rows,
        shrink=(8, 6, 7),
    )
