"""`jobdeck claim|extend|ack`, `jobdeck runs finish`: what programs do that work on runs without being workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobdeck import limits
from jobdeck.cli.call import Call
from jobdeck.cli.command import command

if TYPE_CHECKING:
    from jobdeck.client import Client
    from jobdeck.pull import AckReply, ClaimedWork, ExtendReply

Run = Annotated[str, typer.Argument(metavar="ID", help="Id of the run.")]
Token = Annotated[
    str, typer.Option("--token", metavar="TOKEN|@FILE|-", help="What the claim or the handler gave.")
]
Visibility = Annotated[
    str, typer.Option("--visibility", metavar="30s", help="How long nobody else gets the run.")
]
Outcome = Annotated[str, typer.Argument(metavar="completed|failed", help="How it went.")]
Result = Annotated[
    str | None, typer.Option("--result", metavar="JSON|@FILE|-", help="The result of what is completed.")
]
Error = Annotated[str | None, typer.Option("--error", metavar="TEXT", help="Why it has failed.")]
Retry = Annotated[
    bool, typer.Option("--retry/--no-retry", help="Whether a failure is tried again as the run says.")
]
After = Annotated[
    str | None,
    typer.Option("--retry-after", metavar="5m", help="When it is tried again, instead of its own backoff."),
]
_VISIBILITY = f"{limits.VISIBILITY:.0f}s"
_TOKEN_BYTES = 1_024


def register(app: typer.Typer) -> None:
    """Add the commands to the tree."""
    command(app, "claim")(claim)
    command(app, "extend")(extend)
    command(app, "ack")(ack)


def claim(
    call: Call,
    queue: Annotated[str, typer.Argument(metavar="QUEUE", help="A pull queue of the team.")],
    count: Annotated[
        int, typer.Option("--count", metavar=f"1-{limits.CLAIM_MAX}", help="At most so many runs.")
    ] = 1,
    visibility: Visibility = _VISIBILITY,
    worker: Annotated[
        str | None, typer.Option("--worker", metavar="NAME", help="Who claims; default: actor@host.")
    ] = None,
) -> None:
    """Take due runs of a pull queue, each with the token that ends it. Nothing to take is no error."""
    from jobdeck.cli.json_form.queues import work_json
    from jobdeck.cli.output import emit_json, emit_table, say
    from jobdeck.durations import parse_duration

    span = parse_duration(visibility)
    found = call.ask(lambda client: client.queues.claim(queue, count=count, visibility=span, worker=worker))
    if call.json:
        emit_json([work_json(work) for work in found])
    elif not found:
        say(f"nothing to claim in {queue} now")
    else:
        emit_table(("RUN", "TYPE", "ATTEMPT", "TOKEN", "UNTIL"), [_row(work) for work in found])


def _row(work: ClaimedWork) -> tuple[str, ...]:
    from jobdeck.cli.human import time_text

    return (work.shown_id, work.job_type, str(work.attempt), work.token, time_text(work.lease_until))


def extend(call: Call, run_id: Run, token: Token, visibility: Visibility = _VISIBILITY) -> None:
    """Go on with a run: nobody else gets it for so long from now."""
    from jobdeck.cli.human import time_text
    from jobdeck.cli.json_form.queues import extend_json
    from jobdeck.cli.output import emit, emit_json
    from jobdeck.durations import parse_duration
    from jobdeck.ids import show_id

    given, span = _token(token), parse_duration(visibility)

    async def work(client: Client) -> ExtendReply:
        return await client.queues.extend(await client.runs.resolve(run_id), given, span)

    reply = call.ask(work)
    if call.json:
        emit_json(extend_json(reply))
    else:
        asked = "; it has been asked to stop" if reply.cancel_requested else ""
        emit(f"{show_id('run', reply.run_id)} yours until {time_text(reply.lease_until)}{asked}")


def ack(
    call: Call,
    run_id: Run,
    outcome: Outcome,
    token: Token,
    result: Result = None,
    error: Error = None,
    retry: Retry = True,
    retry_after: After = None,
) -> None:
    """End a run by its token: one that was claimed, or that its handler has parked.

    Only the current token can. The same once more changes nothing and says the same.
    """
    from jobdeck.cli.human import time_text
    from jobdeck.cli.json_form.queues import ack_json
    from jobdeck.cli.output import emit, emit_json
    from jobdeck.ids import show_id

    reply = call.ask(_ending(run_id, outcome, _token(token), result, error, retry, retry_after))
    if call.json:
        emit_json(ack_json(reply))
    else:
        again = f"; goes on at {time_text(reply.due_at)}" if reply.due_at else ""
        emit(f"{show_id('run', reply.run_id)} {reply.status}{again}")


def _ending(
    run_id: str,
    outcome: str,
    token: str,
    result: str | None,
    error: str | None,
    retry: bool,
    retry_after: str | None,
) -> Any:
    """What to ask the client. Raises ValidationError for what does not belong together."""
    from jobdeck.errors import ValidationError

    if outcome not in ("completed", "failed"):
        raise ValidationError(f"a run ends completed or failed, not {outcome[:40]!r}", field="status")
    if outcome == "completed" and (error is not None or not retry or retry_after is not None):
        raise ValidationError("what is completed has no --error and no retry", field="status")
    if outcome == "failed" and result is not None:
        raise ValidationError("what has failed has no --result; say --error", field="result")
    if not retry and retry_after is not None:
        raise ValidationError("--no-retry and --retry-after say different things", field="retry")
    value = _result(result)

    async def work(client: Client) -> AckReply:
        from jobdeck.cli.options import duration

        found = await client.runs.resolve(run_id)
        if outcome == "completed":
            return await client.queues.complete(found, token, value)
        words = error or "failed, and no reason was given"
        return await client.queues.fail(found, token, words, retry=retry, after=duration(retry_after))

    return work


def _result(source: str | None) -> Any:
    from jobdeck import jsonio
    from jobdeck.cli.params import read_source

    if source is None:
        return None
    return jsonio.loads(read_source(source, "result"), what="result", limit=limits.RESULT_BYTES)


def _token(source: str) -> str:
    """As it is, from a file, or from stdin: what stands in arguments is shown to every user of the machine."""
    from jobdeck.cli.params import read_source
    from jobdeck.errors import ValidationError

    text = read_source(source, "token")
    plain = text.decode(errors="replace") if isinstance(text, bytes) else text
    if not plain.strip() or len(plain) > _TOKEN_BYTES:
        raise ValidationError("that is no token; give what the claim or the handler gave", field="token")
    return plain.strip()
