"""`jobdeck queues`: the lanes of runs, and which of them programs work on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from jobdeck.cli.call import Call
from jobdeck.cli.command import command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobdeck.pull import Queue

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the queue.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the tree."""
    part = typer.Typer(help="Queues of the team: lanes of runs.")
    for name, function in (
        ("list", list_queues),
        ("show", show),
        ("create", create),
        ("limit", limit),
        ("delete", delete),
    ):
        command(part, name)(function)
    app.add_typer(part, name="queues")


def list_queues(call: Call) -> None:
    """Show the queues that are declared, and those that have runs."""
    from jobdeck.cli.json_form.queues import queue_json
    from jobdeck.cli.output import emit_json, say

    found = call.ask(lambda client: client.queues.list())
    if call.json:
        emit_json([queue_json(queue) for queue in found])
    elif not found:
        say("no queues yet; a run makes the one it names")
    else:
        _table(found)


def show(call: Call, name: Name) -> None:
    """Show one queue."""
    from jobdeck.cli.json_form.queues import queue_json
    from jobdeck.cli.output import emit_json

    found = call.ask(lambda client: client.queues.show(name))
    if call.json:
        emit_json(queue_json(found))
    else:
        _table([found])


def create(
    call: Call,
    name: Name,
    pull: Annotated[
        bool, typer.Option("--pull", help="Programs claim its runs; workers never take them.")
    ] = False,
    description: Annotated[str, typer.Option("--description", metavar="TEXT", help="What it is for.")] = "",
) -> None:
    """Declare a queue. Only a pull queue has to be: any other is there as soon as a run names it."""
    from jobdeck.cli.json_form.queues import queue_json
    from jobdeck.cli.output import emit, emit_json

    made = call.ask(lambda client: client.queues.create(name, pull=pull, description=description))
    if call.json:
        emit_json(queue_json(made))
    else:
        emit(f"{'pull ' if made.pull else ''}queue {made.name} made")


def limit(
    call: Call,
    name: Name,
    most: Annotated[
        int, typer.Option("--max", metavar="N", help="Runs at a time, on all workers together; 0: no limit.")
    ],
) -> None:
    """Let at most so many runs of a queue run at a time."""
    from jobdeck.cli.json_form.queues import queue_json
    from jobdeck.cli.output import emit_json

    found = call.ask(lambda client: client.queues.limit(name, most or None))
    if call.json:
        emit_json(queue_json(found))
    else:
        _table([found])


def delete(call: Call, name: Name) -> None:
    """Forget a queue that was declared; refused while runs wait in it."""
    from jobdeck.cli.output import emit, emit_json

    call.ask(lambda client: client.queues.delete(name))
    if call.json:
        emit_json({"name": name, "deleted": True})
    else:
        emit(f"queue {name} deleted")


def _table(found: Sequence[Queue]) -> None:
    from jobdeck.cli.human import time_text
    from jobdeck.cli.output import emit_table

    rows = [
        (
            queue.name,
            "pull" if queue.pull else "work",
            str(queue.waiting),
            str(queue.running),
            "" if queue.max_concurrency is None else str(queue.max_concurrency),
            time_text(queue.oldest_due_at) if queue.oldest_due_at else "",
            queue.description,
        )
        for queue in found
    ]
    emit_table(
        ("QUEUE", "KIND", "WAITING", "RUNNING", "MOST", "OLDEST DUE", "DESCRIPTION"), rows, shrink=(6, 0)
    )
