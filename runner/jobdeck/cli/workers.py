"""`jobdeck workers`: the runner processes, and whether those of a host are alive."""

from __future__ import annotations

from typing import Annotated

import typer

from jobdeck.cli.call import Call
from jobdeck.cli.command import command


def register(app: typer.Typer) -> None:
    """Add the command to the tree."""
    part = typer.Typer(help="The runner processes.")
    command(part, "list")(list_workers)
    command(part, "alive")(alive)
    app.add_typer(part, name="workers")


def list_workers(call: Call) -> None:
    """Show the workers of this installation, live ones first."""
    from datetime import UTC, datetime

    from jobdeck.cli.human import span_text
    from jobdeck.cli.json_form.house import worker_json
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


def alive(
    call: Call,
    host: Annotated[
        str | None, typer.Option(metavar="NAME", help="Another host than this one, as the list names it.")
    ] = None,
    count: Annotated[int, typer.Option(metavar="N", min=1, help="How many are to be alive.")] = 1,
) -> None:
    """Exit with 0 while workers of this host reach the database and beat, with 3 where too few do."""
    import socket

    from jobdeck.cli.json_form.house import worker_json
    from jobdeck.cli.output import emit, emit_json
    from jobdeck.errors import NotFound

    name = host or socket.gethostname()
    workers = call.ask(lambda client: client.workers.list())
    found = [worker for worker in workers if worker.host == name and worker.state not in ("stopped", "lost")]
    if len(found) < count:
        raise NotFound(f"{len(found)} of {count} workers are alive on {name}; start one with: jobdeck runner")
    if call.json:
        emit_json([worker_json(worker) for worker in found])
    else:
        emit(f"{len(found)} alive on {name}")
