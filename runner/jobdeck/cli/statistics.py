"""`jobdeck stats`, `jobdeck jobs health` and `jobdeck jobs history`: how runs went."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from jobdeck.cli.call import Call
from jobdeck.cli.command import command

if TYPE_CHECKING:
    from datetime import timedelta

    from jobdeck.client import Client
    from jobdeck.model import RunPage
    from jobdeck.statistics import Health, Outcomes, Statistics

Slug = Annotated[str, typer.Argument(metavar="SLUG", help="Slug of the job in its project, or its id.")]
Window = Annotated[str, typer.Option("--window", metavar="SPAN", help="Of runs made in so long, like 7d.")]


def register(app: typer.Typer) -> None:
    """Add the command to the tree."""
    command(app, "stats")(stats)


def register_for_jobs(part: typer.Typer) -> None:
    """Add the commands to those of jobs."""
    command(part, "health")(health)
    command(part, "history")(history)


def stats(
    call: Call,
    window: Window = "24h",
    by: Annotated[
        str | None, typer.Option("--by", metavar="WHAT", help="Grouped by status, type or queue.")
    ] = None,
) -> None:
    """Count the team's runs: how they ended, how long they took, how many an hour."""
    from jobdeck.cli.json_form.statistics import statistics_json
    from jobdeck.cli.output import emit_json
    from jobdeck.errors import ValidationError
    from jobdeck.statistics import Grouping

    if by is not None and by not in set(Grouping):
        raise ValidationError(f"--by is {', '.join(Grouping)}, not {by[:40]!r}", field="by")
    span, grouping = _window(window), None if by is None else Grouping(by)
    found = call.ask(lambda client: client.statistics.team(window=span, by=grouping))
    if call.json:
        emit_json(statistics_json(found))
    else:
        _print_statistics(found, by)


def _window(text: str) -> timedelta:
    from jobdeck.durations import parse_duration
    from jobdeck.errors import ValidationError

    try:
        return parse_duration(text)
    except ValidationError as error:
        raise ValidationError(f"--window: {error}", field="window") from None


def _print_statistics(found: Statistics, by: str | None) -> None:
    from jobdeck.cli.output import emit_table

    headings = ("RUNS", "ACTIVE", "COMPLETED", "FAILED", "CANCELLED", "SUCCESS", "AVG", "P95", "PER HOUR")
    rows = [(name, *_row(found, outcomes)) for name, outcomes in found.groups.items()]
    rows.append(("all", *_row(found, found.total)))
    emit_table(((by or "").upper(), *headings), rows, shrink=(0,))


def _row(found: Statistics, outcomes: Outcomes) -> tuple[str, ...]:
    failed = outcomes.failed + outcomes.timed_out + outcomes.crashed + outcomes.expired
    counts = (outcomes.total, outcomes.active, outcomes.completed, failed, outcomes.cancelled)
    spans = (_seconds(outcomes.average_secs), _seconds(outcomes.p95_secs))
    return (*map(str, counts), _share(outcomes.success_rate), *spans, f"{found.per_hour(outcomes):.1f}")


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _seconds(value: float | None) -> str:
    from datetime import timedelta

    from jobdeck.cli.human import span_text

    return "" if value is None else span_text(timedelta(seconds=value))


def health(call: Call, slug: Slug, window: Window = "7d") -> None:
    """Say how well a job does: its runs in a window, beside those of the window before."""
    from jobdeck.cli.json_form.statistics import health_json
    from jobdeck.cli.output import emit_block, emit_json

    span = _window(window)

    async def work(client: Client) -> Health:
        return await client.jobs.health(await client.jobs.resolve(slug), window=span)

    found = call.ask(work)
    if call.json:
        emit_json(health_json(found))
    else:
        emit_block("\n".join(f"{name:<10}{value}" for name, value in _health_facts(found).items() if value))


def _health_facts(found: Health) -> dict[str, str]:
    from jobdeck.cli.human import time_text
    from jobdeck.statistics import HEALTH_RUNS

    outcomes = found.outcomes
    few = f"not enough runs: {outcomes.judged} of at least {HEALTH_RUNS} that neither were cancelled nor expired"
    names = ("active", "completed", "failed", "timed_out", "crashed", "cancelled", "expired")
    before = _seconds(found.p95_before_secs)
    return {
        "health": few if found.score is None else f"{found.score:.1f} of 100",
        "since": time_text(found.since),
        "runs": f"{outcomes.total}: "
        + ", ".join(f"{count} {name}" for name in names if (count := getattr(outcomes, name))),
        "success": _share(outcomes.success_rate),
        "average": _seconds(outcomes.average_secs),
        "p95": _seconds(outcomes.p95_secs) + (f", {before} in the window before" if before else ""),
    }


def history(
    call: Call,
    slug: Slug,
    limit: Annotated[int, typer.Option("--limit", metavar="1-500", help="Runs on a page.")] = 50,
    cursor: Annotated[
        str | None, typer.Option("--cursor", metavar="CURSOR", help="Goes on where a page ended.")
    ] = None,
) -> None:
    """Show the runs of a job, newest first: when they were due, began and ended, and how."""
    from jobdeck.cli.json_form.statistics import history_json
    from jobdeck.cli.output import emit_json

    async def work(client: Client) -> RunPage:
        job_id = await client.jobs.resolve(slug)
        return await client.jobs.history(job_id, limit=limit, cursor=cursor)

    page = call.ask(work)
    if call.json:
        emit_json(history_json(page))
    else:
        _print_history(page)


def _print_history(page: RunPage) -> None:
    from jobdeck.cli.human import span_text, time_text
    from jobdeck.cli.output import emit_table, say
    from jobdeck.ids import tail

    if not page.runs:
        say("no runs")
        return
    rows = [
        (
            tail(run.shown_id),
            run.label,
            time_text(run.due_at),
            time_text(run.started_at),
            time_text(run.finished_at),
            span_text(run.duration) if run.duration else "",
            run.error or "",
        )
        for run in page.runs
    ]
    emit_table(("ID", "STATUS", "DUE", "STARTED", "FINISHED", "TOOK", "ERROR"), rows, shrink=(6,))
    if page.has_more:
        say(f"more with: --cursor {page.cursor}")
