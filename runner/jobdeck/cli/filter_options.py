"""The options by which commands choose runs, declared once for lists and for acts on many."""

from __future__ import annotations

from typing import Annotated

import typer

Statuses = Annotated[
    list[str] | None, typer.Option("--status", metavar="NAME", help="Status or label; may be repeated.")
]
Group = Annotated[
    str | None,
    typer.Option("--group", metavar="NAME", help="pending, running, completed, failed or cancelled."),
]
JobType = Annotated[str | None, typer.Option("--type", metavar="TYPE", help="Job type.")]
Queue = Annotated[str | None, typer.Option("--queue", metavar="NAME", help="Queue.")]
Category = Annotated[str | None, typer.Option("--category", metavar="NAME", help="Category.")]
InProject = Annotated[
    str | None, typer.Option("--in-project", metavar="NAME", help="Only runs of this project.")
]
TriggerType = Annotated[
    str | None,
    typer.Option(
        "--trigger", metavar="KIND", help="How it was made: immediate, delayed, scheduled or dependency."
    ),
]
JobSlug = Annotated[str | None, typer.Option("--job", metavar="SLUG", help="Only runs of this saved job.")]
Since = Annotated[str | None, typer.Option("--since", metavar="1h|TIME", help="Made after this.")]
Until = Annotated[str | None, typer.Option("--until", metavar="1h|TIME", help="Made before this.")]
Text = Annotated[
    str | None, typer.Option("--text", metavar="TEXT", help="Part of the type, name or message.")
]
