"""`jobdeck why`, and `jobdeck runs`: list, show, logs; and by `steering` what people do to runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from jobdeck.cli import filter_options as choose
from jobdeck.cli import steering
from jobdeck.cli.call import Call
from jobdeck.cli.command import command
from jobdeck.cli.steering import Id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobdeck.client import Client
    from jobdeck.model import Reason, Run, RunEvent, RunFilter, RunPage


def register(app: typer.Typer) -> None:
    """Add the commands to the tree."""
    part = typer.Typer(help="List runs, look into them and steer them.")
    command(part, "list")(list_runs)
    command(part, "show")(show)
    command(part, "trace")(trace)
    command(part, "logs")(logs)
    steering.register(part)
    app.add_typer(part, name="runs")
    command(app, "why")(why)


def list_runs(
    call: Call,
    status: choose.Statuses = None,
    group: choose.Group = None,
    job_type: choose.JobType = None,
    queue: choose.Queue = None,
    category: choose.Category = None,
    in_project: choose.InProject = None,
    trigger_type: choose.TriggerType = None,
    job: choose.JobSlug = None,
    since: choose.Since = None,
    until: choose.Until = None,
    text: choose.Text = None,
    limit: Annotated[int, typer.Option("--limit", metavar="1-500", help="Runs on a page.")] = 50,
    cursor: Annotated[
        str | None, typer.Option("--cursor", metavar="CURSOR", help="Goes on where a page ended.")
    ] = None,
) -> None:
    """Show runs of the team, newest first."""
    from jobdeck.cli.options import of_job, run_filter

    chosen = run_filter(
        status or [], group, job_type, queue, category, in_project, since, until, text, trigger_type
    )

    async def work(client: Client) -> tuple[RunPage, RunFilter]:
        wanted = await of_job(client, chosen, job)
        return await client.runs.find(wanted, limit=limit, cursor=cursor), wanted

    _print_page(call, *call.ask(work))


def _print_page(call: Call, page: RunPage, chosen: RunFilter) -> None:
    from jobdeck.cli.json_form.runs import page_json
    from jobdeck.cli.output import emit_json, emit_table, say

    if call.json:
        emit_json(page_json(page))
        return
    if not page.runs:
        say("no runs" if chosen == type(chosen)() else "no runs match; leave a filter away to see more")
        return
    headings = ("ID", "STATUS", "TYPE", "NAME", "PROGRESS", "AGE", "TOOK", "MESSAGE")
    emit_table(headings, _rows(page.runs), shrink=(7, 3, 2))
    if page.has_more:
        say(f"more with: --cursor {page.cursor}")


def _rows(runs: Sequence[Run]) -> list[tuple[str, ...]]:
    from datetime import UTC, datetime

    from jobdeck.cli.human import age_text, progress_text, span_text
    from jobdeck.ids import tail

    now = datetime.now(UTC)
    return [
        (
            tail(run.shown_id),
            run.label,
            run.job_type,
            run.name,
            progress_text(run.progress),
            age_text(run, now),
            span_text(run.duration) if run.duration else "",
            run.error or run.held_reason or run.progress.message,
        )
        for run in runs
    ]


def show(
    call: Call,
    run_id: Id,
    events: Annotated[
        bool, typer.Option("--events", help="Its history too: what was done, by whom, when.")
    ] = False,
) -> None:
    """Show everything about one run."""

    async def work(client: Client) -> tuple[Run, list[RunEvent]]:
        found = await client.runs.resolve(run_id)
        return await client.runs.show(found), await client.runs.events(found) if events else []

    run, history = call.ask(work)
    print_run(call, run, history)


def print_run(call: Call, run: Run, history: Sequence[RunEvent] = ()) -> None:
    """The whole record, as JSON or for people."""
    from jobdeck.cli.detail import detail_text, events_text
    from jobdeck.cli.json_form.runs import event_json, run_json
    from jobdeck.cli.output import emit_block, emit_json

    if call.json:
        told = {"events": [event_json(event) for event in history]} if history else {}
        emit_json(run_json(run) | told)
        return
    emit_block(detail_text(run))
    if history:
        emit_block(events_text(history))


def trace(call: Call, run_id: Id) -> None:
    """Show what each attempt of a run spent its time on."""
    from jobdeck.cli.detail import trace_text
    from jobdeck.cli.json_form.runs import attempt_json
    from jobdeck.cli.output import emit, emit_json, say

    async def work(client: Client) -> Run:
        return await client.runs.show(await client.runs.resolve(run_id))

    run = call.ask(work)
    if call.json:
        names = ("attempt", "outcome", "trace")
        rows = [attempt_json(attempt) for attempt in run.attempts]
        emit_json([{name: row[name] for name in names} for row in rows])
        return
    for attempt in run.attempts:
        emit(f"{attempt.attempt}  {attempt.outcome or 'running'}  {trace_text(attempt) or 'no trace'}")
    if not run.attempts:
        say("it has not begun")


def why(call: Call, run_id: Id) -> None:
    """Say what a run waits for, each with the command that lifts it."""
    from jobdeck.cli.json_form.runs import reason_json
    from jobdeck.cli.output import emit, emit_json

    async def work(client: Client) -> list[Reason]:
        return await client.runs.why(await client.runs.resolve(run_id))

    found = call.ask(work)
    if call.json:
        emit_json([reason_json(reason) for reason in found])
        return
    for reason in found:
        emit(f"{reason.text}{f'   $ {reason.command}' if reason.command else ''}")


def logs(
    call: Call,
    run_id: Id,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until the run ends.")] = False,
    last: Annotated[
        int | None, typer.Option("--last", metavar="N", help="Begin with the last N lines.")
    ] = None,
    level: Annotated[
        str | None, typer.Option("--level", metavar="LEVEL", help="At least debug, info, warn or error.")
    ] = None,
) -> None:
    """Print the log of a run, oldest line first."""
    from jobdeck.cli.follow import LogReader, checked_level
    from jobdeck.errors import ValidationError

    lowest = checked_level(level)
    if last is not None and last < 1:
        raise ValidationError(f"--last is at least 1, not {last}", field="last")

    async def work(client: Client) -> None:
        found = await client.runs.resolve(run_id)
        await LogReader(client, found, lowest=lowest, as_json=call.json).print(tail=last, follow=follow)

    call.ask(work)
