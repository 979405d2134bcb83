"""`jobdeck bulk`: cancel, retry, approve or reject all runs that match a filter, counted first."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from jobdeck.cli import filter_options as choose
from jobdeck.cli.call import Call
from jobdeck.cli.command import command

if TYPE_CHECKING:
    from jobdeck.bulk import Bulk, BulkKind, BulkPlan
    from jobdeck.client import Client
    from jobdeck.model import RunFilter

Id = Annotated[
    str,
    typer.Argument(metavar="ID", help="Id of the operation, or at least 4 characters of its start or end."),
]
_HELP = {
    "cancel": "Ask all active runs that match to stop.",
    "retry": "Put all failed, dead, cancelled and expired runs that match back to pending.",
    "approve": "Let all runs that match and await approval go on.",
    "reject": "End all runs that match and await approval, without running them.",
}


def register(app: typer.Typer) -> None:
    """Add the commands to the tree."""
    part = typer.Typer(help="Act on all runs that match a filter, in the background.")
    for name, text in _HELP.items():
        command(part, name)(_acting(name, text))
    command(part, "list")(list_bulk)
    command(part, "show")(show)
    command(part, "stop")(stop)
    app.add_typer(part, name="bulk")


def _acting(name: str, text: str) -> Callable[..., None]:
    def act(
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
        reason: Annotated[
            str | None, typer.Option("--reason", metavar="TEXT", help="Why; kept with each run.")
        ] = None,
        yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
        wait: Annotated[bool, typer.Option("--wait", help="Stay until all were visited.")] = False,
    ) -> None:
        from jobdeck.bulk import BulkKind
        from jobdeck.cli.options import run_filter

        chosen = run_filter(
            status or [], group, job_type, queue, category, in_project, since, until, text, trigger_type
        )
        wanted = _Wanted(call, BulkKind(name), chosen, job, reason, yes=yes, dry_run=dry_run, wait=wait)
        raise typer.Exit(call.ask(wanted.work))

    act.__doc__ = text
    return act


class _Wanted:
    """One act on many runs, as it was asked for."""

    def __init__(
        self,
        call: Call,
        kind: BulkKind,
        chosen: RunFilter,
        job: str | None,
        reason: str | None,
        *,
        yes: bool,
        dry_run: bool,
        wait: bool,
    ) -> None:
        self._call = call
        self._kind = kind
        self._chosen = chosen
        self._job = job
        self._reason = reason
        self._yes = yes
        self._dry_run = dry_run
        self._wait = wait

    async def work(self, client: Client) -> int:
        """The exit code."""
        from jobdeck.cli.options import of_job

        plan = await client.bulk.plan(self._kind, await of_job(client, self._chosen, self._job))
        if self._dry_run or not plan.total:
            self._print_count(plan)
            return 0
        self._confirm(plan)
        bulk = await client.bulk.start(plan, reason=self._reason)
        if not self._wait:
            print_bulk(self._call, bulk)
            return 0
        return await self._stay(client, bulk)

    def _print_count(self, plan: BulkPlan) -> None:
        from jobdeck.cli.output import emit, emit_json

        if self._call.json:
            emit_json({"kind": str(plan.kind), "total": plan.total})
        elif plan.total:
            emit(f"{_runs(plan.total)} would be visited to {plan.kind} {_them(plan.total)}")
        else:
            emit(f"no runs to {plan.kind} match")

    def _confirm(self, plan: BulkPlan) -> None:
        from jobdeck.errors import ValidationError

        if self._yes:
            return
        count = _runs(plan.total)
        if self._call.json or not sys.stdin.isatty():
            raise ValidationError(
                f"{count} match; to {plan.kind} {_them(plan.total)}, add --yes", field="yes"
            )
        typer.confirm(f"{plan.kind} {count}?", abort=True, err=True)

    async def _stay(self, client: Client, bulk: Bulk) -> int:
        from jobdeck.cli.output import say

        if not any(worker.state not in ("stopped", "lost") for worker in await client.workers.list()):
            say("no worker is running: it begins when one does (jobdeck runner)")
        told = -1
        while bulk.is_open:
            if bulk.visited != told:
                say(progress_text(bulk))
                told = bulk.visited
            await client.changed(1.0)
            bulk = await client.bulk.show(bulk.id)
        print_bulk(self._call, bulk)
        # As a run that is attached and does not complete.
        return 0 if bulk.state == "completed" and not bulk.failed else 10


def list_bulk(
    call: Call,
    limit: Annotated[int, typer.Option("--limit", metavar="1-500", help="Operations to show.")] = 50,
) -> None:
    """Show the bulk operations of the team, newest first."""
    from jobdeck.cli.human import time_text
    from jobdeck.cli.json_form.runs import bulk_json
    from jobdeck.cli.output import emit_json, emit_table, say
    from jobdeck.ids import tail

    found = call.ask(lambda client: client.bulk.list(limit=limit))
    if call.json:
        emit_json([bulk_json(bulk) for bulk in found])
        return
    if not found:
        say("no bulk operations yet; see: jobdeck bulk --help")
        return
    rows = [
        (
            tail(bulk.shown_id),
            bulk.kind,
            bulk.state,
            f"{bulk.visited}/{bulk.total}",
            str(bulk.skipped),
            str(bulk.failed),
            bulk.requested_by,
            time_text(bulk.created_at),
            bulk.reason or "",
        )
        for bulk in found
    ]
    headings = ("ID", "KIND", "STATE", "VISITED", "SKIPPED", "FAILED", "BY", "MADE", "REASON")
    emit_table(headings, rows, shrink=(8, 6))


def show(call: Call, bulk_id: Id) -> None:
    """Show one bulk operation: how far it is, and what was refused."""

    async def work(client: Client) -> Bulk:
        return await client.bulk.show(await client.bulk.resolve(bulk_id))

    print_bulk(call, call.ask(work), whole=True)


def stop(call: Call, bulk_id: Id) -> None:
    """Stop a bulk operation. What it has done stays done; the other runs are left alone."""

    async def work(client: Client) -> Bulk:
        return await client.bulk.stop(await client.bulk.resolve(bulk_id))

    print_bulk(call, call.ask(work))


def print_bulk(call: Call, bulk: Bulk, *, whole: bool = False) -> None:
    """An operation, as JSON, in one line, or whole."""
    from jobdeck.cli.json_form.runs import bulk_json
    from jobdeck.cli.output import emit, emit_block, emit_json

    if call.json:
        emit_json(bulk_json(bulk))
    elif whole:
        emit_block("\n".join(_facts(bulk)))
    else:
        emit(f"{bulk.shown_id} {progress_text(bulk)}")


def progress_text(bulk: Bulk) -> str:
    """`cancel running: 300 of 1,200 visited, 2 skipped`."""
    counts = [f"{bulk.visited:,} of {_runs(bulk.total)} visited"]
    counts += [f"{number:,} {name}" for name, number in _left_alone(bulk)]
    return f"{bulk.kind} {bulk.state}: {', '.join(counts)}"


def _left_alone(bulk: Bulk) -> list[tuple[str, int]]:
    counts = (("skipped", bulk.skipped), ("failed", bulk.failed))
    return [(name, number) for name, number in counts if number]


def _facts(bulk: Bulk) -> list[str]:
    import json

    from jobdeck.cli.human import time_text
    from jobdeck.ids import show_id

    facts = {
        "id": bulk.shown_id,
        "what": f"{bulk.kind} {_runs(bulk.total)}",
        "state": str(bulk.state),
        "filter": json.dumps(dict(bulk.chosen), ensure_ascii=False),
        "by": bulk.requested_by,
        "reason": bulk.reason or "",
        "made": time_text(bulk.created_at),
        "started": time_text(bulk.started_at),
        "ended": time_text(bulk.finished_at),
        "done": f"{bulk.done:,}",
        "skipped": f"{bulk.skipped:,}",
        "failed": f"{bulk.failed:,}",
        "refused": ", ".join(f"{code} {number:,}" for code, number in bulk.refused.items()),
    }
    lines = [f"{name:<10}{value}" for name, value in facts.items() if value]
    return [*lines, *(f"{show_id('run', each.run_id)}  {each.message}" for each in bulk.samples)]


def _runs(count: int) -> str:
    return f"{count:,} run" if count == 1 else f"{count:,} runs"


def _them(count: int) -> str:
    return "it" if count == 1 else "them"
