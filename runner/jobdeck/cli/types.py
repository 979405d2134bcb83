"""`jobdeck types`: the job types that workers or installed packages know."""

from __future__ import annotations

from typing import Annotated

import typer

from jobdeck.cli.call import Call
from jobdeck.cli.command import command


def register(app: typer.Typer) -> None:
    """Add the commands to the tree."""
    part = typer.Typer(help="Job types and their params.")
    command(part, "list")(list_types)
    command(part, "show")(show)
    app.add_typer(part, name="types")


def list_types(call: Call) -> None:
    """Show the job types, each with its package and how many live workers know it."""
    from jobdeck.cli.json_form.jobs import type_json
    from jobdeck.cli.output import emit_json, emit_table, say

    found = call.ask(lambda client: client.types.list())
    if call.json:
        emit_json([type_json(kind) for kind in found])
        return
    if not found:
        say("no job types yet: a worker registers its own when it starts (jobdeck runner)")
        return
    rows = [
        (kind.name, kind.category, kind.title, f"{kind.package} {kind.version}", str(kind.live_workers))
        for kind in found
    ]
    emit_table(("TYPE", "CATEGORY", "TITLE", "PACKAGE", "WORKERS"), rows, shrink=(2, 3))


def show(call: Call, name: Annotated[str, typer.Argument(metavar="TYPE")]) -> None:
    """Show one job type: package, defaults and the JSON Schema of its params."""
    import json

    from jobdeck.cli.json_form.jobs import type_json
    from jobdeck.cli.output import emit_block, emit_json

    kind = call.ask(lambda client: client.types.show(name))
    if call.json:
        emit_json(type_json(kind))
        return
    facts = {
        "type": kind.name,
        "title": kind.title,
        "about": kind.description,
        "category": kind.category,
        "scope": kind.scope,
        "package": f"{kind.package} {kind.version}",
        "labels": ", ".join(kind.labels),
        "workers": f"{kind.live_workers} live",
        "defaults": ", ".join(f"{key} {value}" for key, value in kind.defaults.items()),
        "params": json.dumps(dict(kind.schema), ensure_ascii=False, indent=2),
    }
    emit_block("\n".join(f"{name:<10}{value}" for name, value in facts.items() if value))
