"""`jobdeck db prune|backup|restore|jobs`: what is kept in the database, copies of it, and who looks after it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobdeck.cli.call import Call
from jobdeck.cli.command import command

if TYPE_CHECKING:
    from jobdeck.model import Job, Run
    from jobdeck.states import Status
    from jobdeck.store.house.pruning import PruneReport

File = Annotated[Path, typer.Argument(metavar="FILE", help="The file of the backup.")]


def register(part: typer.Typer) -> None:
    """Add the commands to `jobdeck db`."""
    command(part, "prune")(prune)
    command(part, "backup")(backup)
    command(part, "restore")(restore)
    command(part, "jobs")(jobs)


def prune(
    call: Call,
    status: Annotated[
        list[str] | None,
        typer.Option("--status", metavar="NAME", help="Only runs that ended like this; may be repeated."),
    ] = None,
    older_than: Annotated[
        str | None,
        typer.Option(
            "--older-than", metavar="30d", help="Ended longer ago than this, whatever the settings say."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
) -> None:
    """Drop runs of all teams that have been kept long enough, as [retention] says. Workers do it once a day."""
    import asyncio

    from jobdeck.cli.json_form.house import prune_json
    from jobdeck.cli.options import duration
    from jobdeck.cli.output import emit_json
    from jobdeck.housekeeping import prune as drop

    chosen, span = _statuses(status or []), duration(older_than)
    report = asyncio.run(drop(call.settings, statuses=chosen, older_than=span, dry_run=dry_run))
    if call.json:
        emit_json(prune_json(report))
    else:
        _print(report)


def _statuses(names: list[str]) -> list[Status]:
    from jobdeck.errors import ValidationError
    from jobdeck.states import TERMINAL, Status

    known = sorted(TERMINAL)
    for name in names:
        if name not in known:
            raise ValidationError(
                f"{name[:40]!r} is no status of an ended run; choose from {', '.join(known)}", field="status"
            )
    return [Status(name) for name in names]


def _print(report: PruneReport) -> None:
    from jobdeck.cli.human import time_text
    from jobdeck.cli.output import emit_table, say
    from jobdeck.retention import format_keep

    rows = [
        (str(status), format_keep(each.keep), f"{each.runs:,}", time_text(each.oldest))
        for status, each in report.by_status.items()
    ]
    emit_table(("STATUS", "KEPT FOR", "WOULD GO" if report.dry_run else "DROPPED", "OLDEST ENDED"), rows)
    if report.kept:
        say(
            f"{report.kept:,} more are old enough and stay: pinned, or needed by others that are active or pinned"
        )


def backup(
    call: Call,
    file: File,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Write a consistent copy of the database into a file, while workers and clients go on."""
    import asyncio

    from jobdeck.cli.output import emit, emit_json
    from jobdeck.housekeeping import make_backup

    made = asyncio.run(make_backup(call.settings, file, overwrite=force))
    if call.json:
        emit_json({"file": str(made.path), "bytes": made.size, "runs": made.runs})
    else:
        emit(f"{made.path}  {made.size:,} bytes, {made.runs:,} runs")


def restore(
    call: Call,
    file: File,
    replace: Annotated[
        bool, typer.Option("--replace", help="Drop what is in the database; else it has to be empty.")
    ] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Although workers are alive on it: what they hold is taken from them."),
    ] = False,
) -> None:
    """Fill the database from a backup, SQLite or PostgreSQL, whichever it was of. Earlier leases are void then."""
    import asyncio

    from jobdeck.cli.output import emit, emit_json, say
    from jobdeck.housekeeping import restore_backup

    done = asyncio.run(restore_backup(call.settings, file, replace=replace, force=force))
    if call.json:
        emit_json({"epoch": done.epoch, "runs": done.runs, "interrupted": done.interrupted})
        return
    emit(f"{done.runs:,} runs restored, epoch {done.epoch}")
    if done.interrupted:
        say(f"{done.interrupted:,} were under way when the backup was made and are run again")


def jobs(call: Call) -> None:
    """Show the jobs by which jobdeck looks after its database itself, and how their last runs went."""
    import asyncio

    from jobdeck.cli.json_form.house import house_job_json
    from jobdeck.cli.output import emit_json, emit_table, say
    from jobdeck.housekeeping import own_jobs

    found = asyncio.run(own_jobs(call.settings))
    if call.json:
        emit_json([house_job_json(job, run) for job, run in found])
        return
    if not found:
        say("none yet: the first worker makes them; start one with: jobdeck runner")
        return
    headings = ("JOB", "TYPE", "NEXT", "LAST RUN", "STATUS", "ENDED", "RESULT")
    emit_table(headings, [_row(job, run) for job, run in found], shrink=(6,))


def _row(job: Job, run: Run | None) -> tuple[str, ...]:
    import json

    from jobdeck.cli.human import time_text
    from jobdeck.ids import tail

    upcoming = time_text(job.next_fire_at) if job.enabled else "disabled"
    if run is None:
        return (job.slug, job.job_type, upcoming, "", "", "", "")
    result = run.error or (json.dumps(run.result) if run.result else "")
    return (
        job.slug,
        job.job_type,
        upcoming,
        tail(run.shown_id),
        run.label,
        time_text(run.finished_at),
        result,
    )
