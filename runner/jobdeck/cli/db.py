"""`jobdeck db`: the schema of the database, and by `housekeeping` what is kept in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from jobdeck.cli import housekeeping
from jobdeck.cli.call import Call
from jobdeck.cli.command import command

if TYPE_CHECKING:
    from jobdeck.bootstrap import DatabaseStatus


def register(app: typer.Typer) -> None:
    """Add the commands to the tree."""
    part = typer.Typer(help="The database: its schema, what is kept in it, backups.")
    command(part, "status")(status)
    command(part, "current")(current)
    command(part, "upgrade")(upgrade)
    housekeeping.register(part)
    app.add_typer(part, name="db")


def status(call: Call) -> None:
    """Say which database it is and whether its schema is the one this jobdeck needs; exit code 7 where not."""
    found = _status(call)
    _print(call, found)
    if not found.ok:
        from jobdeck.errors import WrongRevision

        raise typer.Exit(WrongRevision.exit_code)


def current(call: Call) -> None:
    """Print the revision of the database alone; nothing where it has no schema."""
    from jobdeck.cli.output import emit, emit_json

    found = _status(call)
    if call.json:
        emit_json({"current": found.current})
    elif found.current:
        emit(found.current)


def upgrade(call: Call) -> None:
    """Bring the schema to the one this jobdeck needs. Safe to run again."""
    import asyncio

    from jobdeck.bootstrap import upgrade_database

    _print(call, asyncio.run(upgrade_database(call.settings)))


def _status(call: Call) -> DatabaseStatus:
    import asyncio

    from jobdeck.bootstrap import database_status

    return asyncio.run(database_status(call.settings))


def _print(call: Call, found: DatabaseStatus) -> None:
    from jobdeck.cli.json_form.house import database_json
    from jobdeck.cli.output import emit, emit_json, say

    if call.json:
        emit_json(database_json(found))
        return
    emit(f"database  {found.url_shown}")
    emit(f"schema    {found.current or 'none'}, needed {found.head}")
    if not found.ok:
        say("run: jobdeck db upgrade")
