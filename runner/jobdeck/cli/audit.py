"""`jobdeck audit`: what people did, and whether the record of it is whole."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from jobdeck.audit import AuditOutcome
from jobdeck.cli.call import Call
from jobdeck.cli.command import command

if TYPE_CHECKING:
    from jobdeck.audit import AuditEntry, AuditReport

BROKEN = 1


def register(app: typer.Typer) -> None:
    """Add the commands to the tree."""
    part = typer.Typer(help="What people did. Rows are added to it and never changed.")
    command(part, "list")(list_acts)
    command(part, "verify")(verify)
    app.add_typer(part, name="audit")


def list_acts(
    call: Call,
    actor: Annotated[str | None, typer.Option(metavar="NAME", help="Acts of one person.")] = None,
    action: Annotated[
        str | None, typer.Option(metavar="ACTION", help="Like run.cancel, or run for all acts on runs.")
    ] = None,
    outcome: Annotated[AuditOutcome | None, typer.Option(help="What became of it.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="WHEN", help="From a time on: 24h for the last day, or a time.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="1-500", help="How many at most.")] = 50,
) -> None:
    """Show acts in the team, newest first."""
    from jobdeck.audit import AuditFilter
    from jobdeck.cli.json_form.people import audit_json
    from jobdeck.cli.output import emit_json, emit_table, say
    from jobdeck.durations import parse_when

    begin = None if since is None else parse_when(since, datetime.now(UTC))
    chosen = AuditFilter(actor, action, outcome, begin)
    found = call.ask(lambda client: client.audit.list(chosen, limit=limit))
    if call.json:
        emit_json([audit_json(entry) for entry in found])
    elif not found:
        say("no acts")
    else:
        headings = ("TIME", "ACTOR", "ACTION", "OUTCOME", "TARGET", "REASON")
        emit_table(headings, [_row(entry) for entry in found], shrink=(5, 4, 1))


def _row(entry: AuditEntry) -> tuple[str, ...]:
    from jobdeck.cli.human import time_text

    target = entry.targets[0] if entry.targets else ""
    more = f" +{entry.count - 1:,}" if entry.count > 1 else ""
    outcome = entry.outcome if entry.code is None else f"{entry.outcome}: {entry.code}"
    return time_text(entry.at), entry.actor, entry.action, outcome, target + more, entry.reason or ""


def verify(call: Call) -> None:
    """Check every row against the seals on it. Exits with 1 where something was edited, removed or added."""
    from jobdeck.cli.json_form.people import audit_report_json
    from jobdeck.cli.output import emit_json

    report = call.ask(lambda client: client.audit.verify())
    if call.json:
        emit_json(audit_report_json(report))
    else:
        _print(report)
    if not report.ok:
        raise typer.Exit(BROKEN)


def _print(report: AuditReport) -> None:
    from jobdeck.cli.output import emit

    emit(f"{report.rows:,} rows, {report.seals:,} seals, {report.unsealed:,} rows not sealed yet")
    for fault in report.faults:
        emit(f"BROKEN  {fault.text}" + (f" (seal {fault.seal})" if fault.seal else ""))
    if report.ok:
        emit(f"ok: nothing was changed. Last seal: {report.head}")
