"""`jobdeck teams` and `jobdeck projects`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from jobdeck.cli.call import Call
from jobdeck.cli.command import command
from jobdeck.limits import DEFAULT_TEAM

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobdeck.model import Project, Team
    from jobdeck.settings import Settings

Slug = Annotated[
    str, typer.Argument(metavar="SLUG", help="Short name: lower-case letters, digits, '-', '_'.")
]
Name = Annotated[
    str | None, typer.Option("--name", metavar="TEXT", help="Name for people; default: the slug.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to the tree."""
    teams = typer.Typer(help="Teams, the scope of everything.")
    command(teams, "list")(list_teams)
    command(teams, "show")(show_team)
    command(teams, "create")(create_team)
    app.add_typer(teams, name="teams")
    projects = typer.Typer(help="Projects of the team.")
    command(projects, "list")(list_projects)
    command(projects, "show")(show_project)
    command(projects, "create")(create_project)
    app.add_typer(projects, name="projects")


def list_teams(call: Call) -> None:
    """Show all teams."""
    from jobdeck.cli.json_form.people import team_json

    found = call.ask(lambda client: client.teams.list(), _outside_teams(call))
    _print(call, found, [team_json(team) for team in found])


def show_team(call: Call, slug: Slug) -> None:
    """Show a team."""
    from jobdeck.cli.json_form.people import team_json

    team = call.ask(lambda client: client.teams.show(slug), _outside_teams(call))
    _print_one(call, team, team_json(team))


def create_team(call: Call, slug: Slug, name: Name = None) -> None:
    """Make a team."""
    from jobdeck.cli.json_form.people import team_json
    from jobdeck.cli.output import emit, emit_json

    team = call.ask(lambda client: client.teams.create(slug, name), _outside_teams(call))
    if call.json:
        emit_json(team_json(team))
    else:
        emit(f"team {team.slug} made")


def list_projects(call: Call) -> None:
    """Show the projects of the team."""
    from jobdeck.cli.json_form.people import project_json

    found = call.ask(lambda client: client.projects.list(), _outside_projects(call))
    _print(call, found, [project_json(project) for project in found])


def show_project(call: Call, slug: Slug) -> None:
    """Show a project of the team."""
    from jobdeck.cli.json_form.people import project_json

    project = call.ask(lambda client: client.projects.show(slug), _outside_projects(call))
    _print_one(call, project, project_json(project))


def create_project(call: Call, slug: Slug, name: Name = None) -> None:
    """Make a project in the team."""
    from jobdeck.cli.json_form.people import project_json
    from jobdeck.cli.output import emit, emit_json

    project = call.ask(lambda client: client.projects.create(slug, name), _outside_projects(call))
    if call.json:
        emit_json(project_json(project))
    else:
        emit(f"project {project.slug} made")


def _outside_teams(call: Call) -> Settings:
    # The team of the settings may be the very one that is to be made.
    return call.settings_with({"team": DEFAULT_TEAM, "project": ""})


def _outside_projects(call: Call) -> Settings:
    return call.settings_with({"project": ""})


def _print(call: Call, found: Sequence[Team | Project], as_json: list[dict[str, object]]) -> None:
    from jobdeck.cli.human import time_text
    from jobdeck.cli.output import emit_json, emit_table

    if call.json:
        emit_json(as_json)
    else:
        emit_table(
            ("SLUG", "NAME", "MADE"), [(each.slug, each.name, time_text(each.created_at)) for each in found]
        )


def _print_one(call: Call, found: Team | Project, as_json: dict[str, object]) -> None:
    from jobdeck.cli.human import time_text
    from jobdeck.cli.output import emit, emit_json

    if call.json:
        emit_json(as_json)
        return
    emit(f"{found.slug}  {found.name}")
    emit(f"id    {as_json['id']}")
    emit(f"made  {time_text(found.created_at)}")
