"""The command `jobdeck`: its tree of commands, and how every error becomes one line and an exit code."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import TyperException

from jobdeck.cli import (
    audit,
    bulk,
    cron,
    db,
    deliveries,
    doctor,
    jobs,
    members,
    pauses,
    pull,
    queues,
    runner,
    runs,
    scopes,
    secrets,
    statistics,
    trigger,
    types,
    workers,
)
from jobdeck.cli.call import Call, OpenClient, open_real_client
from jobdeck.cli.output import ReaderGone, json_text, prepare_streams, say, say_block, silence_stdout
from jobdeck.errors import JobdeckError

INTERRUPTED = 130
UNEXPECTED = 1


def build(open_client: OpenClient = open_real_client) -> typer.Typer:
    """The tree of commands; tests give it another way to a client."""
    app = typer.Typer(
        name="jobdeck",
        help="Run typed background jobs durably; list, watch and steer every run. Without a command: the console.",
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )

    @app.callback(invoke_without_command=True)
    def root(
        ctx: typer.Context,
        json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
        epoch_ms: Annotated[
            bool, typer.Option("--epoch-ms", help="In JSON: times as milliseconds since 1970, not as text.")
        ] = False,
        team: Annotated[str | None, typer.Option("--team", metavar="NAME", help="Team to work in.")] = None,
        project: Annotated[str | None, typer.Option("--project", metavar="NAME", help="Project.")] = None,
        config: Annotated[
            Path | None, typer.Option("--config", metavar="FILE", help="Configuration file.")
        ] = None,
        debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of unexpected errors.")] = False,
        version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
        no_runner: Annotated[
            bool, typer.Option("--no-runner", help="Console only: bring no worker along.")
        ] = False,
        keep_runner: Annotated[
            bool, typer.Option("--keep-runner", help="Console only: leave its worker running at the end.")
        ] = False,
        filter_text: Annotated[
            str | None,
            typer.Option("--filter", metavar="FILTER", help="Console only: begin with this filter."),
        ] = None,
    ) -> None:
        ctx.obj = Call(json, debug, team, project, config, open_client, epoch_ms)
        if version:
            _print_version()
        elif ctx.invoked_subcommand is None:
            from jobdeck.cli.console import open_console

            raise typer.Exit(
                open_console(
                    ctx.obj, with_runner=not no_runner, keep_runner=keep_runner, filter_text=filter_text
                )
            )

    for part in (
        trigger,
        runs,
        bulk,
        jobs,
        queues,
        pauses,
        pull,
        deliveries,
        workers,
        types,
        statistics,
        runner,
        db,
        scopes,
        members,
        audit,
        cron,
        secrets,
        doctor,
    ):
        part.register(app)
    return app


def _print_version() -> None:
    from jobdeck import __version__
    from jobdeck.cli.output import emit

    emit(f"jobdeck {__version__}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and end the process with its exit code."""
    prepare_streams()
    sys.exit(run(build(), list(sys.argv[1:] if arguments is None else arguments)))


def run(app: typer.Typer, arguments: list[str]) -> int:
    """Run one command; its exit code. Nothing escapes: every error is one line, or JSON with `--json`."""
    as_json, debug = "--json" in arguments, "--debug" in arguments
    try:
        code = app(arguments, standalone_mode=False)
    except JobdeckError as error:
        _report(error.message, error.details(), as_json)
        return error.exit_code
    except TyperException as error:
        # Between the name of the option and what is wrong with it, pydantic's words for what kind of error it is.
        message = error.format_message().replace(": Value error, ", ": ", 1)
        _report(message, {"code": "usage", "message": message}, as_json)
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except ReaderGone:
        silence_stdout()
        return 0
    except Exception as error:
        if debug:
            say_block(traceback.format_exc())
        line = f"unexpected {type(error).__name__}: {error}; see it whole with --debug"
        _report(line, {"code": "unexpected", "message": line}, as_json)
        return UNEXPECTED
    return code if isinstance(code, int) else 0


def _report(message: str, details: dict[str, object], as_json: bool) -> None:
    from jobdeck.cli.json_form.values import error_json

    say(json_text(error_json(details)) if as_json else f"error: {message}")
