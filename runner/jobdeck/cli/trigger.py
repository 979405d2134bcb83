"""`jobdeck trigger`: make runs, and with `--attach` stay with one until it ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobdeck.cli.call import Call
from jobdeck.cli.command import command

if TYPE_CHECKING:
    from jobdeck.client import Client


def register(app: typer.Typer) -> None:
    """Add the command to the tree."""
    command(app, "trigger")(trigger)


def trigger(
    call: Call,
    job_type: Annotated[str, typer.Argument(metavar="TYPE", help="Job type; see: jobdeck types list")],
    param: Annotated[
        list[str] | None,
        typer.Option("-p", "--param", metavar="KEY=VALUE", help="One param; may be repeated."),
    ] = None,
    params: Annotated[
        str | None, typer.Option("--params", metavar="JSON|@FILE|-", help="All params as a JSON object.")
    ] = None,
    queue: Annotated[
        str | None, typer.Option("--queue", metavar="NAME", help="Queue; default: default.")
    ] = None,
    priority: Annotated[
        int | None, typer.Option("--priority", metavar="1-10", help="Lower goes first; default 5.")
    ] = None,
    delay: Annotated[str | None, typer.Option("--delay", metavar="5m", help="Due after this time.")] = None,
    at: Annotated[
        str | None, typer.Option("--at", metavar="TIME", help="Due at this time (ISO 8601).")
    ] = None,
    max_attempts: Annotated[
        int | None, typer.Option("--max-attempts", metavar="1-100", help="Tries until the run is dead.")
    ] = None,
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="10m", help="Longest time of one attempt; 0s: none.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", metavar="TEXT", help="Name shown in lists.")] = None,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", metavar="KEY=VALUE", help="May be repeated.")
    ] = None,
    keep_debug: Annotated[
        bool, typer.Option("--debug-log", help="Keep debug lines, and the log without a cap.")
    ] = False,
    attach: Annotated[
        bool, typer.Option("--attach", help="Stay until it ends; its outcome is the exit code.")
    ] = False,
    count: Annotated[int, typer.Option("--count", metavar="N", help="Make so many equal runs.")] = 1,
) -> None:
    """Make a run of a job type now, later or at a time."""
    from jobdeck.cli import options as read
    from jobdeck.errors import ValidationError

    if count < 1 or (attach and count > 1):
        raise ValidationError("--count is at least 1, and exactly 1 with --attach", field="count")
    options: dict[str, Any] = {
        "queue": queue,
        "priority": priority,
        "delay": read.duration(delay),
        "at": read.moment(at),
        "max_attempts": max_attempts,
        "timeout": read.duration(timeout),
        "name": name,
        "tags": read.tags(tag or []),
        "debug_mode": keep_debug,
    }
    code = call.ask(
        lambda client: _trigger(call, client, job_type, params, param or [], count, attach, options)
    )
    raise typer.Exit(code)


async def _trigger(
    call: Call,
    client: Client,
    job_type: str,
    source: str | None,
    pairs: list[str],
    count: int,
    attach: bool,
    options: Mapping[str, Any],
) -> int:
    from jobdeck.cli.params import read_params

    schema = (await client.types.show(job_type)).schema if pairs else {}
    params = read_params(source, pairs, schema)
    if count > 1:
        return await _many(call, client, job_type, params, count, options)
    run = await client.runs.trigger(job_type, params, **options)
    if attach:
        from jobdeck.cli.attach import attach_in_foreground

        return await attach_in_foreground(client, run, as_json=call.json)
    _print_run(call, run)
    return 0


def _print_run(call: Call, run: Any) -> None:
    from jobdeck.cli.json_form import run_json
    from jobdeck.cli.output import emit, emit_json, say

    if call.json:
        emit_json(run_json(run))
        return
    emit(run.shown_id)
    if run.held_reason:
        say(f"it waits: {run.held_reason}")


async def _many(
    call: Call,
    client: Client,
    job_type: str,
    params: Mapping[str, Any],
    count: int,
    options: Mapping[str, Any],
) -> int:
    from jobdeck.cli.output import emit, emit_json
    from jobdeck.ids import show_id

    ids = await client.runs.trigger_many(job_type, [params] * count, **options)
    shown = [show_id("run", run_id) for run_id in ids]
    if call.json:
        emit_json({"ids": shown, "created": len(shown)})
    else:
        for each in shown:
            emit(each)
    return 0
