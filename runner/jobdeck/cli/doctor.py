"""`jobdeck doctor`: what is wrong, and the command that mends it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from jobdeck.cli.call import Call
from jobdeck.cli.command import command

if TYPE_CHECKING:
    from jobdeck.doctor import Finding

_MARKS = {"ok": "ok  ", "warn": "WARN", "fail": "FAIL"}


def register(app: typer.Typer) -> None:
    """Add the command to the tree."""
    command(app, "doctor")(doctor)


def doctor(
    call: Call,
    strict: Annotated[bool, typer.Option("--strict", help="Exit code 1 for warnings too.")] = False,
) -> None:
    """Check the database, the clock, the files, the plugins and the workers; exit code 1 where something fails."""
    import asyncio

    from jobdeck.cli.output import emit, emit_json
    from jobdeck.doctor import examine

    findings = asyncio.run(examine(call.settings))
    if call.json:
        emit_json([_json(finding) for finding in findings])
    else:
        for finding in findings:
            mend = f"  ->  {finding.mend}" if finding.mend else ""
            emit(f"{_MARKS[finding.state]} {finding.name:<10} {finding.says}{mend}")
    refused = ("fail", "warn") if strict else ("fail",)
    if any(finding.state in refused for finding in findings):
        raise typer.Exit(1)


def _json(finding: Finding) -> dict[str, str | None]:
    return {"check": finding.name, "state": finding.state, "says": finding.says, "mend": finding.mend}
