"""`jobdeck trigger`: make runs, and with `--attach` stay with one until it ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobdeck.cli.call import Call
from jobdeck.cli.command import command

if TYPE_CHECKING:
    from uuid import UUID

    from jobdeck.client import Client
    from jobdeck.model import Run


def register(app: typer.Typer) -> None:
    """Add the command to the tree."""
    command(app, "trigger")(trigger)


def trigger(
    call: Call,
    job_type: Annotated[
        str | None, typer.Argument(metavar="TYPE", help="Job type; see: jobdeck types list")
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option("-p", "--param", metavar="KEY=VALUE", help="One param; may be repeated."),
    ] = None,
    params: Annotated[
        str | None, typer.Option("--params", metavar="JSON|@FILE|-", help="All params as a JSON object.")
    ] = None,
    queue: Annotated[
        str | None, typer.Option("--queue", metavar="NAME", help="Queue; default: default.")
    ] = None,
    priority: Annotated[
        int | None, typer.Option("--priority", metavar="1-10", help="Lower goes first; default 5.")
    ] = None,
    delay: Annotated[str | None, typer.Option("--delay", metavar="5m", help="Due after this time.")] = None,
    at: Annotated[
        str | None, typer.Option("--at", metavar="TIME", help="Due at this time (ISO 8601).")
    ] = None,
    max_attempts: Annotated[
        int | None, typer.Option("--max-attempts", metavar="1-100", help="Tries until the run is dead.")
    ] = None,
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="10m", help="Longest time of one attempt; 0s: none.")
    ] = None,
    backoff: Annotated[
        str | None,
        typer.Option(
            "--backoff", metavar="GROWTH", help="exponential, linear or fixed waits before retries."
        ),
    ] = None,
    retry_delay: Annotated[
        str | None, typer.Option("--retry-delay", metavar="5s", help="First wait before a retry.")
    ] = None,
    retry_max: Annotated[
        str | None, typer.Option("--retry-max", metavar="1h", help="Longest wait before a retry.")
    ] = None,
    retry_delays: Annotated[
        str | None,
        typer.Option("--retry-delays", metavar="1s,5s,30s", help="The waits one by one; the last one stays."),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", metavar="TEXT", help="Name shown in lists.")] = None,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", metavar="KEY=VALUE", help="May be repeated.")
    ] = None,
    metadata: Annotated[
        str | None, typer.Option("--metadata", metavar="JSON", help="A JSON object kept with the run.")
    ] = None,
    ttl: Annotated[
        str | None, typer.Option("--ttl", metavar="1h", help="Expires if it has not begun by then.")
    ] = None,
    after: Annotated[
        list[str] | None,
        typer.Option(
            "--after",
            metavar="RUN[:CONDITION]",
            help="Begins when that run has ended: completed (default), failed or finished. May be repeated.",
        ),
    ] = None,
    notify: Annotated[
        bool,
        typer.Option(
            "--notify", help="E-mail when it completes or fails, to the job's people or the team's."
        ),
    ] = False,
    callback_url: Annotated[
        str | None, typer.Option("--callback-url", metavar="URL", help="POST there how it ended (https).")
    ] = None,
    needs_approval: Annotated[
        bool, typer.Option("--needs-approval", help="Somebody else has to approve it first.")
    ] = False,
    idempotency_key: Annotated[
        str | None,
        typer.Option("--idempotency-key", metavar="KEY", help="For 24 h the same request is the same run."),
    ] = None,
    dedupe_key: Annotated[
        str | None,
        typer.Option("--dedupe-key", metavar="KEY", help="No second active run of the type with this key."),
    ] = None,
    concurrency_key: Annotated[
        str | None,
        typer.Option("--concurrency-key", metavar="KEY", help="Runs of a job with this key take turns."),
    ] = None,
    dedupe_window: Annotated[
        str | None,
        typer.Option("--dedupe-window", metavar="10m", help="The dedupe key stands so long instead."),
    ] = None,
    on_conflict: Annotated[
        str | None,
        typer.Option(
            "--on-conflict",
            metavar="MODE",
            help="Where a run is in the way: reject, return_existing, replace or queue_latest.",
        ),
    ] = None,
    keep_debug: Annotated[
        bool, typer.Option("--debug-log", help="Keep debug lines, and the log without a cap.")
    ] = False,
    attach: Annotated[
        bool, typer.Option("--attach", help="Stay until it ends; its outcome is the exit code.")
    ] = False,
    count: Annotated[int, typer.Option("--count", metavar="N", help="Make so many equal runs.")] = 1,
    job: Annotated[
        str | None,
        typer.Option("--job", metavar="SLUG", help="A run of this saved job instead of a TYPE."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="With --job: also while it is disabled.")] = False,
    batch: Annotated[
        str | None,
        typer.Option(
            "--batch", metavar="FILE|-", help="A run for each line: a JSON object of type, params, …"
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check it and show the run it would make; store nothing.")
    ] = False,
) -> None:
    """Make a run of a job type now, later or at a time."""
    from jobdeck.cli import options as read
    from jobdeck.errors import ValidationError

    if count < 1 or ((attach or dry_run) and count > 1):
        raise ValidationError(
            "--count is at least 1, and exactly 1 with --attach or --dry-run", field="count"
        )
    if attach and dry_run:
        raise ValidationError("with --dry-run there is no run to attach to", field="dry_run")
    options: dict[str, Any] = {
        "queue": queue,
        "priority": priority,
        "delay": read.duration(delay),
        "at": read.moment(at),
        "max_attempts": max_attempts,
        "timeout": read.duration(timeout),
        "backoff": read.backoff(backoff, retry_delay, retry_max, retry_delays),
        "name": name,
        "tags": read.tags(tag or []),
        "metadata": read.json_object(metadata, "metadata"),
        "notify": notify,
        "callback_url": callback_url,
        "debug_mode": keep_debug,
        "ttl": read.duration(ttl),
        "requires_approval": needs_approval,
        "idempotency_key": idempotency_key,
        "dedupe_key": dedupe_key,
        "concurrency_key": concurrency_key,
        "dedupe_window": read.duration(dedupe_window),
        "on_conflict": on_conflict,
    }
    if batch is not None:
        _check_batch(params, param, count, attach, dry_run, job, force)
        raise typer.Exit(call.ask(lambda client: _batch(call, client, batch, job_type, after or [], options)))
    if (job_type is None) == (job is None):
        raise ValidationError("name a job type, a saved job with --job, or a file with --batch", field="type")
    if (force and job is None) or (count > 1 and job is not None):
        raise ValidationError("--force goes with --job, and --count does not", field="job")
    request = _Request(job_type, job, force, params, param or [], after or [], options)

    async def work(client: Client) -> int:
        given = await request.read(client)
        if count > 1:
            return await _many(call, client, request, given, count)
        if dry_run:
            return _print_preview(call, await request.preview(client, given))
        run = await request.trigger(client, given)
        if attach:
            from jobdeck.cli.attach import attach_in_foreground

            return await attach_in_foreground(client, run, as_json=call.json)
        _print_run(call, run)
        return 0

    raise typer.Exit(call.ask(work))


def _check_batch(*single: object) -> None:
    from jobdeck.errors import ValidationError

    if any(value not in (None, 1, False) for value in single):
        raise ValidationError(
            "with --batch params stand in its lines; -p, --params, --job, --count, --attach, --dry-run "
            "are for one run",
            field="batch",
        )


async def _batch(
    call: Call, client: Client, source: str, job_type: str | None, after: list[str], options: dict[str, Any]
) -> int:
    from jobdeck.cli.batch import trigger_batch
    from jobdeck.cli.options import waits

    options["after"] = await waits(client, after)
    return await trigger_batch(call, client, source, job_type, options)


@dataclass
class _Request:
    """What the command line asks for; what it says in words that only the database can explain is read by `read`."""

    job_type: str | None
    job: str | None
    force: bool
    source: str | None
    pairs: list[str]
    after: list[str]
    options: dict[str, Any]
    job_id: UUID | None = None

    async def read(self, client: Client) -> dict[str, Any]:
        """The params; the runs of `--after` become an option, and the job of `--job` is found."""
        from jobdeck.cli.options import waits
        from jobdeck.cli.params import read_params

        kind = self.job_type
        if self.job is not None:
            self.job_id = await client.jobs.resolve(self.job)
            kind = (await client.jobs.show(self.job_id)).job_type
        schema = (await client.types.show(kind)).schema if self.pairs and kind else {}
        params = read_params(self.source, self.pairs, schema)
        self.options["after"] = await waits(client, self.after)
        return params

    async def trigger(self, client: Client, params: dict[str, Any]) -> Run:
        """Make the run."""
        if self.job_id is not None:
            return await client.jobs.trigger(self.job_id, params, force=self.force, **self.options)
        return await client.runs.trigger(self.job_type or "", params, **self.options)

    async def preview(self, client: Client, params: dict[str, Any]) -> Run:
        """The run as it would be made."""
        if self.job_id is not None:
            return await client.jobs.preview(self.job_id, params, force=self.force, **self.options)
        return await client.runs.preview(self.job_type or "", params, **self.options)


def _print_preview(call: Call, run: Run) -> int:
    from jobdeck.cli.detail import detail_text
    from jobdeck.cli.json_form.runs import run_json
    from jobdeck.cli.output import emit_block, emit_json, say

    if call.json:
        emit_json(run_json(run) | {"id": None if not run.deduplicated else run.shown_id, "dry_run": True})
        return 0
    say("it stands for this request already:" if run.deduplicated else "nothing is stored; this would be:")
    emit_block(detail_text(run, stored=run.deduplicated))
    return 0


def _print_run(call: Call, run: Run) -> None:
    from jobdeck.cli.json_form.runs import run_json
    from jobdeck.cli.output import emit, emit_json, say

    if call.json:
        emit_json(run_json(run))
        return
    emit(run.shown_id)
    if run.deduplicated:
        say("it stands for this request already; nothing new was made")
    if run.held_reason:
        say(f"held: {run.held_reason}")


async def _many(call: Call, client: Client, request: _Request, params: Mapping[str, Any], count: int) -> int:
    from jobdeck.cli.output import emit, emit_json
    from jobdeck.ids import show_id

    ids = await client.runs.trigger_many(request.job_type or "", [params] * count, **request.options)
    shown = [show_id("run", run_id) for run_id in ids]
    if call.json:
        emit_json({"ids": shown, "created": len(shown)})
    else:
        for each in shown:
            emit(each)
    return 0
