"""The `command` handler: output to log and progress, exit code to outcome, and its ends."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from jobdeck.errors import ValidationError
from jobdeck.limits import LOG_LINE_BYTES
from jobdeck.outcome import Cancelled
from jobdeck.secret import filled
from jobdeck.spec import HandlerSpec
from jobdeck_handlers.command import CommandFailed, command
from tests.process.recording import RUN_ID, RecordingContext, fresh_mark, marked

spec: HandlerSpec = command
STUBBORN = "trap '' TERM; echo ready; while :; do sleep 0.05; done"


@pytest.fixture
def mark() -> Iterator[str]:
    """Text that only the processes of this test have in their environment; none of them may be left."""
    with fresh_mark() as text:
        yield text


async def run(ctx: RecordingContext, **params: Any) -> Any:
    """Run the handler with these params, read as the worker reads them."""
    return await spec(ctx, spec.parse(params))


async def test_output_becomes_log_and_result() -> None:
    """Lines of both streams are logged with their stream, empty ones too, and counted in the result."""
    ctx = RecordingContext()
    result = await run(ctx, shell="echo one; echo; echo two >&2")
    assert ("info", "one", {"stream": "stdout"}) in ctx.log.entries
    assert ("info", "", {"stream": "stdout"}) in ctx.log.entries
    assert ("warn", "two", {"stream": "stderr"}) in ctx.log.entries
    assert result.pop("duration_s") >= 0
    assert result == {"exit_code": 0, "stdout_lines": 2, "stderr_lines": 1}


async def test_argv_is_read_by_no_shell() -> None:
    """Arguments arrive as they are."""
    ctx = RecordingContext()
    await run(ctx, argv=["echo", "$HOME; `id` *"])
    assert ctx.log.messages == ["$HOME; `id` *"]


async def test_lines_are_logged_while_it_runs() -> None:
    """A line is in the log before the program has ended."""
    ctx = RecordingContext()
    task = asyncio.create_task(run(ctx, shell="echo early; sleep 600"))
    await ctx.log.until("early")
    assert not task.done()
    ctx.cancel()
    with pytest.raises(Cancelled):
        await task


@pytest.mark.parametrize(
    ("line", "progress"),
    [
        ("::progress 40", {"processed": 40}),
        ("::progress 40/200", {"processed": 40, "total": 200}),
        ("::progress 40/200 page two", {"processed": 40, "total": 200, "message": "page two"}),
        ("::progress 7 of many ", {"processed": 7, "message": "of many"}),
        ("::progress   3/4  ", {"processed": 3, "total": 4}),
    ],
)
async def test_progress_lines(line: str, progress: dict[str, Any]) -> None:
    """A progress line sets the progress and is not logged, whichever stream it is on."""
    ctx = RecordingContext()
    result = await run(ctx, argv=["sh", "-c", 'echo "$1"; echo "$1" >&2', "-", line])
    assert ctx.progresses == [progress, progress]
    assert ctx.log.entries == []
    assert (result["stdout_lines"], result["stderr_lines"]) == (0, 0)


@pytest.mark.parametrize(
    "line",
    [
        "::progress",
        "::progress x",
        "::progress -1",
        "::progress 1/",
        "::progress 4,5",
        "x ::progress 4",
        f"::progress {'9' * 16}",
    ],
)
async def test_what_only_looks_like_progress_is_a_line(line: str) -> None:
    """A malformed progress line is logged like any other."""
    ctx = RecordingContext()
    await run(ctx, argv=["echo", line])
    assert ctx.log.messages == [line]
    assert ctx.progresses == []


@pytest.mark.parametrize(
    ("shell", "message"),
    [
        ("echo out; echo why >&2; echo >&2; exit 3", "exit code 3: why"),
        ("echo out; exit 4", "exit code 4: out"),
        ("exit 5", "exit code 5"),
        ("kill -SEGV $$", "killed by SIGSEGV (signal 11)"),
    ],
)
async def test_any_other_end_is_an_error_that_says_why(shell: str, message: str) -> None:
    """The error names the exit code or signal and the last line the program said."""
    with pytest.raises(CommandFailed) as caught:
        await run(RecordingContext(), shell=shell)
    assert str(caught.value) == message


async def test_a_program_that_cannot_start_is_an_error() -> None:
    """The error names the program or the folder."""
    with pytest.raises(CommandFailed, match=r"cannot start: .*No such file or directory: 'no-such-program'"):
        await run(RecordingContext(), argv=["no-such-program"])
    with pytest.raises(CommandFailed, match=r"cannot start: .*No such file or directory: '/no/folder'"):
        await run(RecordingContext(), argv=["true"], cwd="/no/folder")


async def test_stdin_and_cwd() -> None:
    """The program reads the text it was given, in the folder it was given."""
    ctx = RecordingContext()
    await run(ctx, shell="pwd; cat", stdin="é\nzwei", cwd="/")
    assert ctx.log.messages == ["/", "é", "zwei"]
    ctx = RecordingContext()
    await run(ctx, argv=["wc", "-c"])
    assert ctx.log.messages == ["0"]


async def test_environment_is_minimal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker's secrets and its database are not inherited; the run's facts and the given variables are there."""
    monkeypatch.setenv("JOBDECK_SECRET_TOKEN", "worker-secret")
    monkeypatch.setenv("JOBDECK_SECRET_OTHER", "other-secret")
    monkeypatch.setenv("JOBDECK_DATABASE_URL", "postgresql://worker-secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "cloud-secret")
    monkeypatch.setenv("LC_TIME", "C")
    ctx = RecordingContext()
    env = {"PLAIN": "a=b", "TOKEN": "secret://TOKEN", "JOBDECK_RUN_ID": "forged"}
    await run(ctx, argv=["/usr/bin/env"], env=env)
    seen = dict(line.split("=", 1) for line in ctx.log.messages)
    assert seen["PLAIN"] == "a=b"
    assert seen["TOKEN"] == "worker-secret"
    assert seen["PATH"] == os.environ["PATH"]
    assert seen["LC_TIME"] == "C"
    jobdeck = {name: value for name, value in seen.items() if name.startswith("JOBDECK_")}
    assert jobdeck == {
        "JOBDECK_RUN_ID": str(RUN_ID),
        "JOBDECK_ATTEMPT": "2",
        "JOBDECK_TEAM": "crew",
        "JOBDECK_PROJECT": "apollo",
    }
    assert "cloud-secret" not in str(seen)


async def test_a_secret_that_is_not_set_is_an_error() -> None:
    """The error names the variable to set; nothing is started."""
    with pytest.raises(LookupError, match="JOBDECK_SECRET_NO_SUCH_SECRET is not set"):
        await run(RecordingContext(), argv=["true"], env={"A": "secret://NO_SUCH_SECRET"})


async def test_secrets_as_a_worker_fills_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """The program may read one; among its arguments, which all users of the machine can see, none may stand."""
    monkeypatch.setenv("JOBDECK_SECRET_A", "s3cret")
    ctx = RecordingContext()
    raw = {"shell": 'cat; echo " $A"', "stdin": "secret://A", "env": {"A": "secret://A"}}
    await spec(ctx, spec.parse(filled(raw)))
    assert ctx.log.messages == ["s3cret s3cret"]
    with pytest.raises(ValidationError, match="give a secret by env or stdin"):
        spec.parse(filled({"argv": ["login", "secret://A"]}))


async def test_a_timeout_ends_it(mark: str) -> None:
    """After the timeout the program and what it started are ended, and the error says so."""
    ctx = RecordingContext()
    began = time.monotonic()
    with pytest.raises(TimeoutError, match=r"not finished within its timeout; killed by SIGTERM"):
        await run(ctx, shell="setsid sleep 600 & sleep 600", timeout="200ms", env={"MARK": mark})
    assert time.monotonic() - began < 4
    assert marked(mark) == set()


async def test_sigkill_follows_after_the_grace(mark: str) -> None:
    """A program that ignores SIGTERM is killed after `grace`."""
    ctx = RecordingContext()
    began = time.monotonic()
    with pytest.raises(TimeoutError, match="killed by SIGKILL"):
        await run(ctx, shell=STUBBORN, timeout="200ms", grace="300ms", env={"MARK": mark})
    assert 0.5 <= time.monotonic() - began < 4
    assert marked(mark) == set()


async def test_a_cancel_lets_it_clean_up(mark: str) -> None:
    """At a cancel the program gets SIGTERM, its last lines are logged, and no exit code makes it completed."""
    ctx = RecordingContext()
    shell = "trap 'echo cleaned up; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    task = asyncio.create_task(run(ctx, shell=shell, env={"MARK": mark}))
    await ctx.log.until("ready")
    ctx.cancel()
    with pytest.raises(Cancelled):
        await task
    assert ctx.log.messages[-1] == "cleaned up"
    assert marked(mark) == set()


async def test_a_run_that_is_cancelled_already_starts_nothing() -> None:
    """A cancel before the start leaves the program unstarted."""
    ctx = RecordingContext()
    ctx.cancel()
    with pytest.raises(Cancelled):
        await run(ctx, argv=["no-such-program"])


async def test_cancelling_the_task_leaves_nothing(mark: str) -> None:
    """The second step of a cancel, the end of the task, ends even a program that ignores SIGTERM."""
    ctx = RecordingContext()
    task = asyncio.create_task(run(ctx, shell=STUBBORN, grace="5m", env={"MARK": mark}))
    await ctx.log.until("ready")
    ctx.cancel()
    await asyncio.sleep(0)
    task.cancel()
    began = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - began < 4
    assert marked(mark) == set()


async def test_two_hundred_thousand_lines() -> None:
    """A chatty program ends in seconds and every line is counted."""
    ctx = RecordingContext()
    ctx.log.counted = 0
    began = time.monotonic()
    result = await run(ctx, argv=["seq", "200000"])
    assert time.monotonic() - began < 15
    assert result["stdout_lines"] == ctx.log.counted == 200_000


async def test_an_endless_line_is_cut() -> None:
    """A line of 10 MB becomes one entry of at most the length of a log line."""
    ctx = RecordingContext()
    await run(ctx, argv=[sys.executable, "-c", "print('x' * 10_000_000)"])
    (line,) = ctx.log.messages
    assert len(line.encode()) == LOG_LINE_BYTES


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"argv": []},
        {"argv": ["true"], "shell": "true"},
        {"argv": "true"},
        {"shell": ""},
        {"argv": ["true"], "timeout": 0},
        {"argv": ["true"], "timeout": "soon"},
        {"argv": ["true"], "grace": "6m"},
        {"argv": ["true"], "env": {"": "x"}},
        {"argv": ["true"], "env": {"A=B": "x"}},
        {"argv": ["true"], "env": {"A": "secret://bad name"}},
        {"argv": ["true"], "unknown": 1},
        {"argv": ["login", "secret://A"]},
        {"shell": "secret://A"},
    ],
)
def test_wrong_params_are_refused(params: dict[str, Any]) -> None:
    """What cannot work is refused before anything is stored."""
    with pytest.raises(ValidationError, match="params of command"):
        spec.parse(params)


def test_params_survive_storage() -> None:
    """What is stored is what was given: durations as text, secrets as references."""
    given = {"argv": ["x"], "env": {"A": "secret://A", "B": "b"}, "timeout": "5m", "grace": "2s"}
    stored = spec.parse(given).model_dump(mode="json", exclude_unset=True)
    assert stored == given
    assert spec.parse(stored) == spec.parse(given)
    assert spec.schema()["properties"]["env"]["additionalProperties"]["anyOf"][0]["format"] == "secret"
