"""`jobdeck runs cancel|retry|rerun|approve|reject|update|finish|pin|unpin`: what people do to a run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobdeck.cli.call import Call
from jobdeck.cli.command import command
from jobdeck.cli.pull import ack

if TYPE_CHECKING:
    from uuid import UUID

    from jobdeck.client import Client
    from jobdeck.model import CancelReply, Run

Id = Annotated[
    str, typer.Argument(metavar="ID", help="Id of the run, or at least 4 characters of its start or end.")
]
Reason = Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Why; kept with the run.")]
Param = Annotated[
    list[str] | None, typer.Option("-p", "--param", metavar="KEY=VALUE", help="One param; may be repeated.")
]
Params = Annotated[
    str | None, typer.Option("--params", metavar="JSON|@FILE|-", help="All params as a JSON object.")
]
Seen = Annotated[
    str | None,
    typer.Option(
        "--seen", metavar="HASH", help="The request_hash that was looked at; refused if it changed."
    ),
]


def register(part: typer.Typer) -> None:
    """Add the commands to `jobdeck runs`."""
    for name, function in (
        ("cancel", cancel),
        ("retry", retry),
        ("rerun", rerun),
        ("approve", approve),
        ("reject", reject),
        ("update", update),
        ("finish", ack),
        ("pin", pin),
        ("unpin", unpin),
    ):
        command(part, name)(function)


def cancel(call: Call, run_id: Id, reason: Reason = None) -> None:
    """Ask a run to stop. A waiting run ends at once, a running one as soon as its handler lets go."""
    from jobdeck.cli.json_form.runs import cancel_json
    from jobdeck.cli.output import emit, emit_json
    from jobdeck.ids import show_id

    async def work(client: Client) -> CancelReply:
        return await client.runs.cancel(await client.runs.resolve(run_id), reason=reason)

    reply = call.ask(work)
    if call.json:
        emit_json(cancel_json(reply))
    elif reply.cancelled:
        emit(f"{show_id('run', reply.run_id)} cancelled")
    else:
        emit(f"{show_id('run', reply.run_id)} asked to stop; it is still {reply.status}")


def retry(call: Call, run_id: Id, reason: Reason = None) -> None:
    """Put a failed, dead, cancelled or expired run back to pending; its history stays."""
    _steer(call, run_id, lambda client, found: client.runs.retry(found, reason=reason))


def rerun(call: Call, run_id: Id, param: Param = None, params: Params = None) -> None:
    """Make a new run of the same request; with -p or --params, of other params."""

    async def act(client: Client, found: UUID) -> Run:
        given = await _params(client, found, params, param or [])
        return await client.runs.rerun(found, given)

    _steer(call, run_id, act)


def approve(call: Call, run_id: Id, reason: Reason = None, seen: Seen = None) -> None:
    """Let a run go on that awaits approval; what is approved is its params as they are now."""
    _steer(call, run_id, lambda client, found: client.runs.approve(found, reason=reason, seen=seen))


def reject(
    call: Call,
    run_id: Id,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; kept with the run.")],
    seen: Seen = None,
) -> None:
    """End a run that awaits approval without running it."""
    _steer(call, run_id, lambda client, found: client.runs.reject(found, reason=reason, seen=seen))


def update(
    call: Call,
    run_id: Id,
    param: Param = None,
    params: Params = None,
    queue: Annotated[str | None, typer.Option("--queue", metavar="NAME", help="Queue.")] = None,
    priority: Annotated[
        int | None, typer.Option("--priority", metavar="1-10", help="Lower goes first.")
    ] = None,
    delay: Annotated[
        str | None, typer.Option("--delay", metavar="5m", help="Due after this time from now.")
    ] = None,
    at: Annotated[
        str | None, typer.Option("--at", metavar="TIME", help="Due at this time (ISO 8601).")
    ] = None,
    reason: Reason = None,
) -> None:
    """Change a run that has not begun. With -p single params change, with --params all of them.

    An approval it had is void then: it awaits another one.
    """
    from jobdeck.cli import options as read

    async def act(client: Client, found: UUID) -> Run:
        return await client.runs.update(
            found,
            params=await _params(client, found, params, param or []),
            queue=queue,
            priority=priority,
            delay=read.duration(delay),
            at=read.moment(at),
            reason=reason,
        )

    _steer(call, run_id, act)


def pin(call: Call, run_id: Id, reason: Reason = None) -> None:
    """Keep a run for good, with what belongs to it: nothing that is pruned takes it along."""
    _steer(call, run_id, lambda client, found: client.runs.pin(found, reason=reason))


def unpin(call: Call, run_id: Id, reason: Reason = None) -> None:
    """Let a pinned run go when its time has come."""
    _steer(call, run_id, lambda client, found: client.runs.unpin(found, reason=reason))


async def _params(
    client: Client, run_id: UUID, source: str | None, pairs: list[str]
) -> dict[str, Any] | None:
    """What the words say; single params go over those of the run. None where nothing is said."""
    from jobdeck.cli.params import read_params

    if source is None and not pairs:
        return None
    run = await client.runs.show(run_id)
    schema = (await client.types.show(run.job_type)).schema if pairs else {}
    said = read_params(source, pairs, schema)
    return said if source is not None else {**(run.params or {}), **said}


def _steer(call: Call, run_id: str, act: Callable[[Client, UUID], Awaitable[Run]]) -> None:
    """Do something to a run; its id and what it is now."""
    from jobdeck.cli.json_form.runs import run_json
    from jobdeck.cli.output import emit, emit_json

    async def work(client: Client) -> Run:
        return await act(client, await client.runs.resolve(run_id))

    run = call.ask(work)
    if call.json:
        emit_json(run_json(run))
    else:
        emit(f"{run.shown_id} {run.label}{', pinned' if run.pinned else ''}")
