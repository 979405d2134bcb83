"""`jobdeck members`: who belongs to the team, and what they may do there."""

from __future__ import annotations

from typing import Annotated

import typer

from jobdeck.cli.call import Call
from jobdeck.cli.command import command
from jobdeck.people import Role

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="Who acts, as jobdeck calls them (setting `actor`).")
]
Chosen = Annotated[
    Role, typer.Option("--role", help="What they may do; each role may do more than the last.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to the tree."""
    part = typer.Typer(help="Members of the team. A team without any is open to everybody.")
    command(part, "list")(list_members)
    command(part, "add")(add)
    command(part, "set")(set_role)
    command(part, "remove")(remove)
    app.add_typer(part, name="members")


def list_members(call: Call) -> None:
    """Show the members of the team."""
    from jobdeck.cli.human import time_text
    from jobdeck.cli.json_form.people import member_json
    from jobdeck.cli.output import emit_json, emit_table, say

    found = call.ask(lambda client: client.members.list())
    if call.json:
        emit_json([member_json(member) for member in found])
        return
    if not found:
        say("no members: everybody is admin here; to change that: jobdeck members add NAME --role admin")
        return
    rows = [(each.actor, each.role, time_text(each.added_at), each.added_by) for each in found]
    emit_table(("NAME", "ROLE", "ADDED", "BY"), rows, shrink=(0, 3))


def add(call: Call, name: Name, role: Chosen) -> None:
    """Make somebody a member. The first one has to be an admin, and closes the team to everybody else."""
    from jobdeck.cli.json_form.people import member_json
    from jobdeck.cli.output import emit, emit_json

    member = call.ask(lambda client: client.members.add(name, role))
    if call.json:
        emit_json(member_json(member))
    else:
        emit(f"{member.actor} is {member.role} now")


def set_role(call: Call, name: Name, role: Chosen) -> None:
    """Give a member another role."""
    before = call.ask(lambda client: client.members.set(name, role))
    _tell(call, name, before, role)


def remove(call: Call, name: Name) -> None:
    """Take somebody out of the team. Without its last member a team is open again."""
    before = call.ask(lambda client: client.members.remove(name))
    _tell(call, name, before, None)


def _tell(call: Call, name: str, before: Role, role: Role | None) -> None:
    from jobdeck.cli.output import emit, emit_json

    if call.json:
        emit_json({"actor": name, "before": before, "role": role})
    else:
        emit(f"{name} is {role or 'no member'} now, and was {before}")
