"""`jobdeck cron`: what a cron expression means, before a job uses it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobdeck.cli.call import Call
from jobdeck.cli.command import command

if TYPE_CHECKING:
    from jobdeck.cron import Explanation

_FIRES_MAX = 1_000


def register(app: typer.Typer) -> None:
    """Add the commands to the tree."""
    part = typer.Typer(help="Cron expressions.")
    command(part, "explain")(explain)
    app.add_typer(part, name="cron")


def explain(
    call: Call,
    expression: Annotated[str, typer.Argument(metavar="CRON", help="Five fields, quoted: '30 2 * * 1-5'.")],
    tz: Annotated[str, typer.Option("--tz", metavar="ZONE", help="IANA time zone.")] = "UTC",
    count: Annotated[int, typer.Option("--count", metavar="N", help="Show so many fires.")] = 5,
) -> None:
    """Say in plain English when a cron expression fires, its next fires, and what clock changes do to them."""
    from datetime import UTC, datetime

    from jobdeck import cron
    from jobdeck.cli.output import emit_json
    from jobdeck.errors import ValidationError

    if not 1 <= count <= _FIRES_MAX:
        raise ValidationError(f"--count lies between 1 and {_FIRES_MAX:,}", field="count")
    found = cron.explain(expression, tz, datetime.now(UTC), count)
    if call.json:
        emit_json(_json(found))
    else:
        _print(found)


def _print(found: Explanation) -> None:
    from jobdeck.cli.human import iso
    from jobdeck.cli.output import emit, emit_table

    emit(f"{found.summary} ({found.timezone})")
    for text in (*found.remarks, *(remark.text for remark in found.clock_remarks)):
        emit(f"- {text}")
    emit("")
    rows = [(f"{fire:%a %Y-%m-%d %H:%M %z}", iso(fire) or "") for fire in found.fires]
    emit_table((f"NEXT IN {found.timezone}", "UTC"), rows)


def _json(found: Explanation) -> dict[str, Any]:
    from jobdeck.cli.human import iso

    return {
        "cron": found.expression,
        "timezone": found.timezone,
        "summary": found.summary,
        "remarks": list(found.remarks),
        "clock_changes": [
            {"at": iso(remark.at), "kind": remark.kind, "text": remark.text} for remark in found.clock_remarks
        ],
        "fires": [{"local": fire.isoformat(), "utc": iso(fire)} for fire in found.fires],
    }
