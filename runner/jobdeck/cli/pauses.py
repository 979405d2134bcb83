"""`jobdeck pause`, `resume` and `pauses`: what shall not begin for a while."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from jobdeck.cli.call import Call
from jobdeck.cli.command import command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobdeck.model import Pause

Kind = Annotated[str, typer.Argument(metavar="queue|type|job|team|all", help="What kind of thing.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Which one; team and all take none.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the tree."""
    for name, function in (("pause", pause), ("resume", resume), ("pauses", list_pauses)):
        command(app, name)(function)


def pause(
    call: Call,
    kind: Kind,
    name: Name = "",
    reason: Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Why.")] = None,
    span: Annotated[
        str | None, typer.Option("--for", metavar="TIME", help="How long, like 2h; else until resumed.")
    ] = None,
) -> None:
    """Let nothing of a queue, a job type, a job, the team or of everything begin; what runs goes on."""
    from jobdeck.cli.options import duration

    length = duration(span)
    _print(call, [call.ask(lambda client: client.pauses.pause(kind, name, reason=reason, span=length))])


def resume(call: Call, kind: Kind, name: Name = "") -> None:
    """End a pause."""
    from jobdeck.cli.json_form.queues import pause_json
    from jobdeck.cli.output import emit, emit_json

    found = call.ask(lambda client: client.pauses.resume(kind, name))
    if call.json:
        emit_json(pause_json(found))
    else:
        emit(f"{found.kind} {found.name}".rstrip() + " goes on")


def list_pauses(call: Call) -> None:
    """Show what is paused, by whom, why and for how long."""
    _print(call, call.ask(lambda client: client.pauses.list()), many=True)


def _print(call: Call, found: Sequence[Pause], *, many: bool = False) -> None:
    from jobdeck.cli.human import time_text
    from jobdeck.cli.json_form.queues import pause_json
    from jobdeck.cli.output import emit_json, emit_table, say

    if call.json:
        told = [pause_json(each) for each in found]
        emit_json(told if many else told[0])
    elif not found:
        say("nothing is paused")
    else:
        rows = [
            (
                str(each.kind),
                each.name,
                each.actor,
                time_text(each.at),
                time_text(each.until) or "resumed",
                each.reason or "",
            )
            for each in found
        ]
        emit_table(("WHAT", "NAME", "BY", "SINCE", "UNTIL", "REASON"), rows, shrink=(5, 1))
