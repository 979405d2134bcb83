"""`jobdeck jobs`: saved jobs, their versions, and files of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobdeck.cli import chains, statistics
from jobdeck.cli.call import Call
from jobdeck.cli.command import command

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from jobdeck.client import Client
    from jobdeck.model import Change, Job, PlanStep

Slug = Annotated[str, typer.Argument(metavar="SLUG", help="Slug of the job in its project, or its id.")]
Slugs = Annotated[list[str] | None, typer.Argument(metavar="SLUG", help="Slugs or ids of jobs.")]
Note = Annotated[str | None, typer.Option("--note", metavar="TEXT", help="Why; kept with the version.")]
Type = Annotated[str | None, typer.Option("--type", metavar="TYPE", help="Job type.")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="A field, like priority=2 or params.url=https://…; may be repeated.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands to the tree."""
    part = typer.Typer(help="Saved jobs: definitions with versions, and files of them.")
    for name, function in (
        ("list", list_jobs),
        ("show", show),
        ("create", create),
        ("update", update),
        ("clone", clone),
        ("enable", enable),
        ("disable", disable),
        ("archive", archive),
        ("versions", versions),
        ("diff", diff),
        ("rollback", rollback),
        ("apply", apply),
        ("export", export),
    ):
        command(part, name)(function)
    chains.register(part)
    statistics.register_for_jobs(part)
    app.add_typer(part, name="jobs")


def list_jobs(
    call: Call,
    job_type: Type = None,
    in_project: Annotated[
        str | None, typer.Option("--in-project", metavar="NAME", help="Only jobs of this project.")
    ] = None,
    enabled: Annotated[
        bool | None, typer.Option("--enabled/--disabled", help="Only those that are, or are not.")
    ] = None,
    archived: Annotated[bool, typer.Option("--archived", help="Those out of use instead.")] = False,
    text: Annotated[
        str | None, typer.Option("--text", metavar="TEXT", help="Part of the slug or name.")
    ] = None,
) -> None:
    """Show the team's saved jobs, by slug."""
    from jobdeck.cli.human import time_text
    from jobdeck.cli.json_form.jobs import job_json
    from jobdeck.cli.output import emit_json, emit_table, say
    from jobdeck.model import JobFilter

    chosen = JobFilter(in_project, job_type, enabled, archived, text)
    found = call.ask(lambda client: client.jobs.list(chosen))
    if call.json:
        emit_json([job_json(job) for job in found])
        return
    if not found:
        say("no jobs; make one with: jobdeck jobs create SLUG --type TYPE")
        return
    rows = [
        (
            job.slug,
            "enabled" if job.enabled else "disabled",
            job.job_type,
            str(job.facts.get("name", "")),
            job.project or "",
            str(job.version),
            time_text(job.next_fire_at) if job.next_fire_at else "",
            f"{time_text(job.updated_at)} by {job.updated_by}",
        )
        for job in found
    ]
    emit_table(
        ("SLUG", "STATE", "TYPE", "NAME", "PROJECT", "VERSION", "NEXT", "CHANGED"), rows, shrink=(7, 3)
    )


def show(
    call: Call,
    slug: Slug,
    version: Annotated[int | None, typer.Option("--version", metavar="N", help="An older one.")] = None,
) -> None:
    """Show a job with its definition, in its newest version or an older one."""
    from jobdeck.cli.json_form.jobs import version_json
    from jobdeck.cli.output import emit_json

    if version is None:
        _print_job(call, _ask(call, slug, lambda client, job_id: client.jobs.show(job_id)))
        return
    found = _ask(call, slug, lambda client, job_id: client.jobs.version(job_id, version))
    if call.json:
        emit_json(version_json(found))
    else:
        _print_facts(found.facts)


def create(
    call: Call,
    slug: Annotated[str | None, typer.Argument(metavar="SLUG", help="Its name in commands.")] = None,
    job_type: Type = None,
    set_: Set = None,
    disabled: Annotated[bool, typer.Option("--disabled", help="Not to be run yet.")] = False,
    batch: Annotated[
        Path | None,
        typer.Option(
            "--batch", metavar="FILE|-", help="Up to 100 jobs, a JSON object on each line; all or none."
        ),
    ] = None,
    note: Note = None,
) -> None:
    """Save a job: a type with params and policies. Its fields: see docs/jobs.md."""
    from jobdeck.cli.job_files import assigned, read_lines
    from jobdeck.errors import ValidationError
    from jobdeck.model import JobSpec

    if (slug is None) == (batch is None) or (batch is not None and (job_type or set_ or disabled)):
        raise ValidationError("give a slug with --type and --set, or a file with --batch", field="slug")
    if batch is not None:
        specs = read_lines(batch)
    else:
        kind = {"type": job_type} if job_type else {}
        specs = [JobSpec(slug or "", {**kind, **assigned(set_ or [])}, not disabled)]

    async def work(client: Client) -> list[Job]:
        ids = await client.jobs.create_many(specs, note=note)
        return [await client.jobs.show(job_id) for job_id in ids]

    _print_jobs(call, call.ask(work))


def update(
    call: Call,
    slug: Slug,
    set_: Set = None,
    unset: Annotated[
        list[str] | None,
        typer.Option("--unset", metavar="NAME", help="Back to the default; may be repeated."),
    ] = None,
    if_version: Annotated[
        int | None, typer.Option("--if-version", metavar="N", help="Refuse if it is another one by now.")
    ] = None,
    note: Note = None,
) -> None:
    """Change a job: makes its next version. Objects like params are merged, everything else is replaced."""
    from jobdeck.cli.job_files import assigned, merged
    from jobdeck.errors import ValidationError

    changes = assigned(set_ or [])
    if not changes and not unset:
        raise ValidationError("say what to change with --set or --unset", field="set")

    async def act(client: Client, job_id: UUID) -> Job:
        job = await client.jobs.show(job_id)
        wanted: dict[str, Any] = {name: merged(job.facts, changes)[name] for name in changes}
        wanted |= dict.fromkeys(unset or [])
        return await client.jobs.update(
            job_id, wanted, if_version=job.version if if_version is None else if_version, note=note
        )

    _print_jobs(call, [_ask(call, slug, act)])


def clone(call: Call, slug: Slug, new: Annotated[str, typer.Argument(metavar="NEW")]) -> None:
    """Save the same definition under another slug, disabled."""
    _print_jobs(call, [_ask(call, slug, lambda client, job_id: client.jobs.clone(job_id, new))])


def enable(call: Call, slugs: Slugs = None, job_type: Type = None) -> None:
    """Let jobs run: those named, or all of a type in the project."""
    _switch(call, slugs or [], job_type, enabled=True)


def disable(call: Call, slugs: Slugs = None, job_type: Type = None) -> None:
    """Let no schedule, dependency or person start these jobs; runs that are there go on."""
    _switch(call, slugs or [], job_type, enabled=False)


def _switch(call: Call, slugs: list[str], job_type: str | None, *, enabled: bool) -> None:
    from jobdeck.cli.output import emit, emit_json
    from jobdeck.errors import ValidationError
    from jobdeck.model import JobFilter

    if bool(slugs) == (job_type is not None):
        raise ValidationError("name jobs, or all of a type with --type", field="slug")

    async def work(client: Client) -> int:
        if job_type is not None:
            project = client.project.slug if client.project else None
            found = await client.jobs.list(JobFilter(project=project, job_type=job_type))
            ids = [job.id for job in found if job.project == project]
        else:
            ids = [await client.jobs.resolve(slug) for slug in slugs]
        return await client.jobs.switch(ids, enabled=enabled)

    changed = call.ask(work)
    if call.json:
        emit_json({"changed": changed, "enabled": enabled})
    else:
        emit(f"{changed} {'enabled' if enabled else 'disabled'}")


def archive(call: Call, slug: Slug) -> None:
    """Take a job out of use. Its versions and runs stay; its slug is free again."""
    from jobdeck.cli.json_form.jobs import job_json
    from jobdeck.cli.output import emit, emit_json

    job = _ask(call, slug, lambda client, job_id: client.jobs.archive(job_id))
    if call.json:
        emit_json(job_json(job))
    else:
        emit(f"{job.shown_id} {job.slug} archived")


def versions(call: Call, slug: Slug) -> None:
    """Show all versions of a job, newest first."""
    from jobdeck.cli.human import time_text
    from jobdeck.cli.json_form.jobs import version_json
    from jobdeck.cli.output import emit_json, emit_table

    found = _ask(call, slug, lambda client, job_id: client.jobs.versions(job_id))
    if call.json:
        emit_json([version_json(version) for version in found])
        return
    rows = [
        (str(each.version), time_text(each.created_at), each.created_by, each.note or "") for each in found
    ]
    emit_table(("VERSION", "MADE", "BY", "NOTE"), rows, shrink=(3,))


def diff(
    call: Call,
    slug: Slug,
    first: Annotated[int, typer.Argument(metavar="A")],
    second: Annotated[int, typer.Argument(metavar="B")],
) -> None:
    """Show what differs between two versions of a job."""
    from jobdeck.cli.json_form.jobs import changes_json
    from jobdeck.cli.output import emit_json, say

    changes = _ask(call, slug, lambda client, job_id: client.jobs.diff(job_id, first, second))
    if call.json:
        emit_json(changes_json(changes))
    elif changes:
        _print_changes(changes)
    else:
        say("they say the same")


def rollback(
    call: Call, slug: Slug, version: Annotated[int, typer.Argument(metavar="VERSION")], note: Note = None
) -> None:
    """Make a new version that says what an old one said."""
    _print_jobs(
        call, [_ask(call, slug, lambda client, job_id: client.jobs.rollback(job_id, version, note=note))]
    )


def apply(
    call: Call,
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE…", help="TOML with tables [jobs.SLUG]; -: what is piped in.")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan only.")] = False,
    note: Note = None,
) -> None:
    """Make the project's jobs what these files say; jobs that stand in none of them are left alone."""
    from jobdeck.cli.job_files import read_files
    from jobdeck.cli.json_form.jobs import step_json
    from jobdeck.cli.output import emit_json, say

    specs = read_files(files)

    async def work(client: Client) -> Sequence[PlanStep]:
        return await (client.jobs.plan(specs) if dry_run else client.jobs.apply(specs, note=note))

    steps = call.ask(work)
    if call.json:
        emit_json({"dry_run": dry_run, "steps": [step_json(step) for step in steps]})
        return
    for step in steps:
        _print_step(step)
    done = {"create": "created", "update": "updated", "keep": "kept"}
    counts = [(sum(step.action == name for step in steps), name) for name in done]
    said = ", ".join(f"{count} {f'to {name}' if dry_run else done[name]}" for count, name in counts)
    say(f"{said}; nothing is done yet" if dry_run else said)


def export(call: Call, slugs: Slugs = None) -> None:
    """Print jobs of the project as TOML for `jobdeck jobs apply`; all of them where none is named."""
    from jobdeck.cli.job_files import toml_text
    from jobdeck.cli.json_form.jobs import job_json
    from jobdeck.cli.output import emit_block, emit_json
    from jobdeck.model import JobFilter

    async def work(client: Client) -> list[Job]:
        if slugs:
            return [await client.jobs.show(await client.jobs.resolve(slug)) for slug in slugs]
        project = client.project.slug if client.project else None
        found = await client.jobs.list(JobFilter(project=project))
        return [job for job in found if job.project == project]

    found = call.ask(work)
    if call.json:
        emit_json([job_json(job) for job in found])
    else:
        emit_block(toml_text(found).rstrip())


def _ask(call: Call, slug: str, act: Callable[[Client, UUID], Awaitable[Any]]) -> Any:
    async def work(client: Client) -> Any:
        return await act(client, await client.jobs.resolve(slug))

    return call.ask(work)


def _print_jobs(call: Call, jobs: Sequence[Job]) -> None:
    from jobdeck.cli.json_form.jobs import job_json
    from jobdeck.cli.output import emit, emit_json

    if call.json:
        emit_json(job_json(jobs[0]) if len(jobs) == 1 else [job_json(job) for job in jobs])
        return
    for job in jobs:
        emit(f"{job.shown_id} {job.slug} version {job.version}{'' if job.enabled else ', disabled'}")


def _print_job(call: Call, job: Job) -> None:
    from jobdeck.cli.human import time_text
    from jobdeck.cli.json_form.jobs import job_json
    from jobdeck.cli.output import emit_block, emit_json

    if call.json:
        emit_json(job_json(job))
        return
    facts = {
        "job": f"{job.slug} ({job.shown_id})",
        "state": "archived" if job.archived_at else "enabled" if job.enabled else "disabled",
        "project": job.project,
        "version": str(job.version),
        "made": f"{time_text(job.created_at)} by {job.created_by}",
        "changed": f"{time_text(job.updated_at)} by {job.updated_by}",
        "next fire": time_text(job.next_fire_at) if job.next_fire_at else None,
        "last fire": time_text(job.last_fire_at) if job.last_fire_at else None,
        "schedule": job.schedule_note,
    } | chains.facts_of(job)
    emit_block("\n".join(f"{name:<10}{value}" for name, value in facts.items() if value))
    _print_facts(job.facts)


def _print_facts(facts: Any) -> None:
    import json

    from jobdeck.cli.output import emit_block

    emit_block(json.dumps(dict(facts), ensure_ascii=False, indent=2))


def _print_step(step: PlanStep) -> None:
    from jobdeck.cli.output import emit

    emit(f"{step.action} {step.slug}")
    if step.action == "update":
        _print_changes(step.changes)


def _print_changes(changes: Sequence[Change]) -> None:
    import json

    from jobdeck.cli.output import emit

    def shown(value: Any) -> str:
        return "(default)" if value is None else json.dumps(value, ensure_ascii=False)

    for change in changes:
        emit(f"  {change.field}: {shown(change.before)} -> {shown(change.after)}")
