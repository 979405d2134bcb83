"""`jobdeck secrets`: which secrets a worker with these settings would find, and for whom. Values are never shown."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from jobdeck.cli.call import Call
from jobdeck.cli.command import command

if TYPE_CHECKING:
    from collections.abc import Sequence

Name = Annotated[str, typer.Argument(metavar="NAME", help="The name, or secret://NAME.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the tree."""
    secrets = typer.Typer(help="Secrets that a worker started here would find; never their values.")
    command(secrets, "list")(list_secrets)
    command(secrets, "check")(check_secret)
    app.add_typer(secrets, name="secrets")


def list_secrets(call: Call) -> None:
    """Show names, where each comes from and the teams that may use it; providers cannot be listed."""
    from jobdeck.bootstrap import vault_of
    from jobdeck.cli.output import emit_json, emit_table, say

    vault = vault_of(call.settings)
    found = vault.listed()
    if call.json:
        emit_json([{"name": each.name, "source": each.source, "teams": list(each.teams)} for each in found])
    else:
        rows = [(each.name, each.source or "not set here", _teams(each.teams)) for each in found]
        emit_table(("NAME", "SOURCE", "TEAMS"), rows)
    for _, trouble in vault.troubles():
        say(f"{trouble.reason}  ->  {trouble.mend}" if trouble.mend else trouble.reason)


def check_secret(call: Call, name: Name) -> None:
    """Say whether a run of the team would find it; exit code 3 where it is not there, 6 where it is not granted."""
    from jobdeck.bootstrap import vault_of
    from jobdeck.cli.output import emit, emit_json
    from jobdeck.secret import SCHEME

    upper, team = _checked(name.removeprefix(SCHEME)), call.settings.team
    source = vault_of(call.settings).find(upper, team).source
    if call.json:
        emit_json({"name": upper, "team": team, "source": source})
    else:
        emit(f"{SCHEME}{upper} is there for the team {team}: {source}")


def _checked(name: str) -> str:
    from jobdeck.errors import ValidationError
    from jobdeck.limits import REFERENCE_NAME_PATTERN

    if not re.fullmatch(REFERENCE_NAME_PATTERN, name):
        raise ValidationError(
            f"{name[:80]!r} is no name of a secret; use letters, digits and '_'", field="name"
        )
    return name.upper()


def _teams(teams: Sequence[str]) -> str:
    return ", ".join("all" if team == "*" else team for team in teams) or "none"
