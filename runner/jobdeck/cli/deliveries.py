"""`jobdeck deliveries` and `jobdeck webhooks`: notifications, and what webhooks need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from jobdeck.cli.call import Call
from jobdeck.cli.command import command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobdeck.client import Client
    from jobdeck.client.deliveries import NewSecret, Webhooks
    from jobdeck.notifiers import Delivery

Id = Annotated[
    str, typer.Argument(metavar="ID", help="Id of the delivery, or 4 or more characters of its start or end.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to the tree."""
    part = typer.Typer(help="Notifications of how runs ended: callbacks, webhooks, e-mail.")
    command(part, "list")(list_deliveries)
    command(part, "show")(show)
    command(part, "resend")(resend)
    app.add_typer(part, name="deliveries")
    hooks = typer.Typer(help="Secrets that webhooks are signed with, and endpoints that want no more.")
    command(hooks, "list")(list_webhooks)
    command(hooks, "rotate")(rotate)
    command(hooks, "enable")(enable)
    app.add_typer(hooks, name="webhooks")


def list_deliveries(
    call: Call,
    run: Annotated[str | None, typer.Option("--run", metavar="RUN", help="Only those of this run.")] = None,
    state: Annotated[
        str | None,
        typer.Option(
            "--state", metavar="STATE", help="Only pending, sending, delivered, failed or disabled ones."
        ),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", help="At most so many.")] = 50,
) -> None:
    """Show the team's notifications, newest first."""
    from jobdeck.cli.json_form.deliveries import delivery_json
    from jobdeck.cli.output import emit_json, emit_table, say

    async def work(client: Client) -> list[Delivery]:
        run_id = None if run is None else await client.runs.resolve(run)
        return await client.deliveries.list(run_id=run_id, state=state, limit=limit)

    found = call.ask(work)
    if call.json:
        emit_json([delivery_json(each) for each in found])
    elif found:
        headings = ("ID", "STATE", "EVENT", "CHANNEL", "TO", "TRIES", "RUN", "MADE", "SAID")
        emit_table(headings, _rows(found), shrink=(8, 4))
    else:
        say("no deliveries")


def _rows(found: Sequence[Delivery]) -> list[tuple[str, ...]]:
    from jobdeck.cli.human import time_text
    from jobdeck.ids import show_id, tail

    return [
        (
            tail(each.shown_id),
            each.state,
            each.event,
            each.channel,
            # A query often holds what is nobody's business; `show` has it.
            each.endpoint.partition("?")[0],
            f"{each.tries}/{each.tries_max}",
            tail(show_id("run", each.run_id)),
            time_text(each.created_at),
            each.last_error or "",
        )
        for each in found
    ]


def show(call: Call, delivery_id: Id) -> None:
    """Show one notification with what it says, to the byte."""

    async def work(client: Client) -> Delivery:
        return await client.deliveries.show(await client.deliveries.resolve(delivery_id))

    _print(call, call.ask(work))


def resend(call: Call, delivery_id: Id) -> None:
    """Try a notification again now, under the same id."""

    async def work(client: Client) -> Delivery:
        return await client.deliveries.resend(await client.deliveries.resolve(delivery_id))

    _print(call, call.ask(work))


def _print(call: Call, found: Delivery) -> None:
    from jobdeck.cli.json_form.deliveries import delivery_json
    from jobdeck.cli.output import emit_block, emit_json
    from jobdeck.text import clean

    facts = delivery_json(found)
    if call.json:
        emit_json(facts)
        return
    lines = [f"{name + ':':<15}{clean(str(value))}" for name, value in facts.items() if value is not None]
    emit_block("\n".join(lines))


def list_webhooks(call: Call) -> None:
    """Show for what there are secrets, never which, and which endpoints get nothing any more."""
    from jobdeck.cli.human import time_text
    from jobdeck.cli.json_form.deliveries import webhooks_json
    from jobdeck.cli.output import emit_json, emit_table, say

    found: Webhooks = call.ask(lambda client: client.webhooks.list())
    if call.json:
        emit_json(webhooks_json(found))
        return
    if found.secrets:
        rows = [
            (
                each.job or "callbacks of runs",
                f"{time_text(each.created_at)} by {each.created_by}",
                time_text(each.previous_until) if each.previous_until else "",
            )
            for each in found.secrets
        ]
        emit_table(("SECRET OF", "MADE", "OLD ONE SIGNS UNTIL"), rows, shrink=(0,))
    else:
        say("no secrets: webhooks are not signed; make one with: jobdeck webhooks rotate")
    if found.disabled:
        gone = [
            (
                each.shown_id,
                each.job or "callbacks of runs",
                # As in the list of deliveries; `--json` has it.
                each.url.partition("?")[0],
                time_text(each.disabled_at),
                each.reason,
            )
            for each in found.disabled
        ]
        emit_table(("DISABLED", "OF", "URL", "SINCE", "WHY"), gone, shrink=(2,))


def rotate(
    call: Call,
    job: Annotated[
        str | None,
        typer.Option("--job", metavar="SLUG", help="Of this job; without it, of the team's callbacks."),
    ] = None,
    from_stdin: Annotated[
        bool, typer.Option("--stdin", help="Read the secret from standard input instead of drawing it.")
    ] = False,
    drop_old: Annotated[
        bool, typer.Option("--drop-old", help="The one before signs no more, not even for 24 hours.")
    ] = False,
) -> None:
    """Put a new secret in place and print it, this once. For 24 hours the one before signs as well."""
    import sys

    from jobdeck.cli.human import time_text
    from jobdeck.cli.json_form.deliveries import secret_json
    from jobdeck.cli.output import emit, emit_json, say

    given = sys.stdin.read(1_000).strip() if from_stdin else None

    async def work(client: Client) -> NewSecret:
        job_id = None if job is None else await client.jobs.resolve(job)
        return await client.webhooks.rotate(job_id, secret=given, drop_old=drop_old)

    found = call.ask(work)
    if call.json:
        emit_json(secret_json(found))
        return
    emit(found.secret)
    say("it is shown this once; nothing else tells it")
    if found.old_until is not None:
        say(f"the one before signs as well until {time_text(found.old_until)}")


def enable(
    call: Call,
    endpoint: Annotated[str, typer.Argument(metavar="ID", help="As `webhooks list` shows it: hook_…")],
) -> None:
    """Let notifications go to an endpoint again that has answered 410 Gone."""
    from jobdeck.cli.output import emit, emit_json
    from jobdeck.ids import show_id

    shown = show_id("hook", call.ask(lambda client: client.webhooks.enable(endpoint)))
    if call.json:
        emit_json({"id": shown, "enabled": True})
    else:
        emit(f"{shown} enabled; send again what it has missed: jobdeck deliveries list --state disabled")
