"""`jobdeck jobs depend` and `undepend`: jobs that start after others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from jobdeck.cli.call import Call
from jobdeck.cli.command import command

if TYPE_CHECKING:
    from jobdeck.client import Client
    from jobdeck.model import Dependency, Job

Slug = Annotated[str, typer.Argument(metavar="SLUG", help="Slug of the job in its project, or its id.")]
On = Annotated[str, typer.Option("--on", metavar="OTHER", help="Slug or id of the other job.")]


def register(part: typer.Typer) -> None:
    """Add the commands to those of jobs."""
    command(part, "depend")(depend)
    command(part, "undepend")(undepend)


def depend(
    call: Call,
    slug: Slug,
    on: On,
    condition: Annotated[
        str, typer.Option("--condition", metavar="HOW", help="How its run ends: completed, failed, finished.")
    ] = "completed",
) -> None:
    """Start a job after another one: when a run of each job that it depends on has ended so."""
    from jobdeck.errors import ValidationError
    from jobdeck.states import Condition

    if condition not in set(Condition):
        raise ValidationError(
            f"--condition is {', '.join(Condition)}, not {condition[:40]!r}", field="condition"
        )

    async def work(client: Client) -> Job:
        job_id, on_id = await client.jobs.resolve(slug), await client.jobs.resolve(on)
        return await client.jobs.depend(job_id, on_id, Condition(condition))

    _print(call, call.ask(work))


def undepend(call: Call, slug: Slug, on: On) -> None:
    """Let a job not start after another one any more."""

    async def work(client: Client) -> Job:
        return await client.jobs.undepend(await client.jobs.resolve(slug), await client.jobs.resolve(on))

    _print(call, call.ask(work))


def _print(call: Call, job: Job) -> None:
    from jobdeck.cli.json_form.jobs import job_json
    from jobdeck.cli.output import emit, emit_json

    if call.json:
        emit_json(job_json(job))
        return
    after = ", ".join(f"{each.job} ({each.condition})" for each in job.depends_on)
    emit(f"{job.slug} starts after {after}" if after else f"{job.slug} starts after no other job")


def facts_of(job: Job) -> dict[str, str | None]:
    """What a job starts after and what starts after it, for people."""
    before = [f"{each.job} ({_how(each)})" for each in job.depends_on]
    after = [f"{each.job} ({each.condition})" for each in job.dependants]
    return {"after": ", ".join(before) or None, "then": ", ".join(after) or None}


def _how(dependency: Dependency) -> str:
    from jobdeck.ids import show_id

    met = dependency.met_run_id
    return f"{dependency.condition}, met by {show_id('run', met)}" if met else str(dependency.condition)
