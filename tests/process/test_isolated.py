"""Handlers in a process of their own: what crosses the border, and what the border holds back."""

from __future__ import annotations

import asyncio
import json
import os
import time
import traceback
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from jobdeck.context import CancelReason
from jobdeck.errors import AlreadyActive, StaleLease, ValidationError
from jobdeck.limits import LOG_LINE_BYTES
from jobdeck.net import HttpError
from jobdeck.outcome import Cancelled, Discard, Retry, Snooze
from jobdeck.process.isolated import run_isolated
from jobdeck.process.wire import ChildDied, ChildError
from jobdeck.secret import SecretNotGranted, lookup, redact
from tests.process.recording import RUN_ID, RecordingContext, await_gone, marked

Start = Callable[..., Coroutine[Any, Any, Any]]


@pytest.fixture
def start(mark: str, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Runs a probe handler in a child process that carries the mark."""
    monkeypatch.setenv("MARK", mark)
    monkeypatch.syspath_prepend(Path(__file__).parent / "plugin")

    async def run(name: str, ctx: RecordingContext, **params: Any) -> Any:
        return await run_isolated(f"probe_handlers:{name}", ctx, json.dumps(params))

    return run


async def test_the_handler_sees_the_whole_context(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Params, facts of the run, resume and settings reach the child, jobdeck's own database does not."""
    monkeypatch.setenv("JOBDECK_DATABASE_URL", "sqlite:///secret")
    ctx = RecordingContext(resume={"page": 7, "é": [None]}, settings={"limit": 3})
    seen = await start("facts", ctx, word="w\u2028ö")
    assert seen.pop("pid") != os.getpid()
    assert seen == {
        "word": "w\u2028ö",
        "run_id": str(RUN_ID),
        "team": "crew",
        "project": "apollo",
        "job_type": "probe",
        "attempt": 2,
        "fence": 7,
        "resume": {"page": 7, "é": [None]},
        "settings": {"limit": 3},
        "cancelled": False,
        "database": [],
    }


async def test_reports_arrive(start: Start) -> None:
    """Log, std logging, printed lines, progress, checkpoint and child runs happen on the worker's context."""
    ctx = RecordingContext()
    assert await start("report", ctx) is None
    entries = ctx.log.entries
    assert ("info", "hello", {"page": 3, "nested": {"a": [1]}, "other": "<class 'object'>"}) in entries
    assert ("error", "trouble", {}) in entries
    assert ("warn", "from logging", {"logger": "lib"}) in entries
    assert ("info", "printed", {"stream": "stdout"}) in entries
    assert ("warn", "complained", {"stream": "stderr"}) in entries
    assert ("info", "enqueued", {"run": str(RUN_ID)}) in entries
    assert ctx.progresses == [{"processed": 3, "total": 9, "failed": 1, "skipped": 2, "message": "three"}]
    assert ctx.checkpoints == [{"page": 3}]
    options = {
        "delay": timedelta(seconds=1.5),
        "at": datetime(2026, 1, 2, tzinfo=UTC),
        "after": UUID(int=1),
        "queue": "q",
    }
    assert ctx.enqueued == [("other", {"n": 1}, options)]


async def test_a_sync_handler_has_the_same_means(start: Start) -> None:
    """The methods for threads work in the child."""
    ctx = RecordingContext()
    assert await start("report_sync", ctx, word="x") == str(RUN_ID)
    assert ctx.checkpoints == [{"word": "x"}]
    assert ctx.enqueued == [("other", None, {})]


async def test_retry_keeps_its_delay(start: Start) -> None:
    """Retry arrives as Retry, with its delay or without."""
    with pytest.raises(Retry, match="not yet") as caught:
        await start("steer", RecordingContext(), word="retry")
    assert caught.value.after == timedelta(seconds=90)
    with pytest.raises(Retry, match="again") as caught:
        await start("steer", RecordingContext(), word="retry_plain")
    assert caught.value.after is None


async def test_snooze_and_discard_arrive(start: Start) -> None:
    """The other steering exceptions keep class, reason and delay."""
    with pytest.raises(Snooze, match="later") as caught:
        await start("steer", RecordingContext(), word="snooze")
    assert caught.value.delay == timedelta(minutes=5)
    with pytest.raises(Discard, match="never"):
        await start("steer", RecordingContext(), word="discard")


async def test_errors_of_jobdeck_keep_their_class(start: Start) -> None:
    """What the engine tells apart by class is told apart here, too."""
    with pytest.raises(StaleLease, match="lost it"):
        await start("steer", RecordingContext(), word="stale")
    with pytest.raises(AlreadyActive, match="one runs") as caught:
        await start("steer", RecordingContext(), word="active")
    assert caught.value.existing_run_id == "run_1"


async def test_other_errors_come_with_their_traceback(start: Start) -> None:
    """An ordinary exception is a ChildError with type, message and where it happened."""
    with pytest.raises(ChildError) as caught:
        await start("steer", RecordingContext(), word="?")
    assert (caught.value.kind, str(caught.value)) == ("ZeroDivisionError", "ZeroDivisionError: no such word")
    assert "probe_handlers.py" in "".join(traceback.format_exception(caught.value))
    with pytest.raises(ChildError, match="SystemExit: enough"):
        await start("steer", RecordingContext(), word="exit")


async def test_wrong_params_are_a_validation_error(start: Start) -> None:
    """Params the model refuses never reach the handler."""
    with pytest.raises(ValidationError, match="params of facts: wort") as caught:
        await start("facts", RecordingContext(), wort="x")
    assert caught.value.field == "params"


@pytest.mark.parametrize(
    ("reference", "kind"),
    [
        ("no_such_module:x", "ModuleNotFoundError"),
        ("probe_handlers:no_such", "AttributeError"),
        ("probe_handlers:NOT_A_HANDLER", "TypeError"),
    ],
)
async def test_a_reference_that_leads_nowhere_is_an_error(start: Start, reference: str, kind: str) -> None:
    """A plugin that is broken in the child fails the attempt, not the worker."""
    with pytest.raises(ChildError) as caught:
        await run_isolated(reference, RecordingContext(), "{}")
    assert caught.value.kind == kind


async def test_results_are_checked_in_the_child(start: Start) -> None:
    """A result beyond the limit or beyond JSON ends the run, for no other attempt would do better."""
    with pytest.raises(Discard, match="result has 10,000,002 bytes"):
        await start("too_large", RecordingContext())
    with pytest.raises(Discard, match="Unable to serialize unknown type"):
        await start("not_json", RecordingContext())


async def test_results_become_plain_json(start: Start) -> None:
    """Models, dates and the like arrive as the JSON they are stored as."""
    assert await start("model", RecordingContext()) == {"word": "x", "at": ["2026-01-02T00:00:00Z"]}


async def test_the_workers_refusal_is_raised_in_the_handler(start: Start) -> None:
    """StaleLease of a checkpoint can be caught by the handler in the child."""
    ctx = RecordingContext()
    ctx.refusal = StaleLease("run belongs to another worker")
    assert await start("checkpoint_twice", ctx) == "refused: run belongs to another worker"


async def test_a_flood_of_messages_arrives_in_order_and_capped(start: Start) -> None:
    """Tens of thousands of entries arrive in order; one of megabytes is cut before it is sent."""
    ctx = RecordingContext()
    assert await start("flood", ctx) == "done"
    *lines, (_, last, fields) = ctx.log.entries
    assert [entry[2]["number"] for entry in lines] == list(range(20_000))
    assert len(last.encode()) == len(fields["field"].encode()) == LOG_LINE_BYTES


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("kill", r"ended without an outcome, killed by SIGKILL"),
        ("segfault", r"killed by SIGSEGV \(signal 11\): Fatal Python error: Segmentation fault"),
        ("exit", r"ended without an outcome, exit code 3: giving up"),
    ],
)
async def test_the_death_of_the_child_is_an_error(start: Start, word: str, text: str) -> None:
    """A child that is killed, crashes or exits fails the attempt and says how it ended."""
    with pytest.raises(ChildDied, match=text):
        await start("die", RecordingContext(), word=word)


async def test_a_crash_leaves_its_stack_in_the_log(start: Start) -> None:
    """A segmentation fault tells where it happened."""
    ctx = RecordingContext()
    with pytest.raises(ChildDied):
        await start("die", ctx, word="segfault")
    assert any("probe_handlers.py" in message for message in ctx.log.messages)


@pytest.mark.parametrize("name", ["wait", "wait_sync"])
async def test_a_cancel_wakes_the_handler(start: Start, name: str) -> None:
    """ctx.sleep in the child wakes at a cancel and the attempt ends as cancelled."""
    ctx = RecordingContext()
    task = asyncio.create_task(start(name, ctx))
    await ctx.log.until("ready")
    ctx.cancel()
    began = time.monotonic()
    with pytest.raises(Cancelled):
        await task
    assert time.monotonic() - began < 3


async def test_the_reason_of_a_cancel_is_known_to_the_handler(start: Start) -> None:
    """A handler that looks for a cancel sees it with its reason, and its result counts."""
    ctx = RecordingContext()
    task = asyncio.create_task(start("poll", ctx))
    await ctx.log.until("ready")
    ctx.cancel(CancelReason.SHUTDOWN)
    assert await task == "stopped: shutdown"


@pytest.mark.parametrize("name", ["wait", "wait_sync", "clean_up", "clean_up_sync", "family", "hog"])
async def test_cancelling_the_task_ends_the_whole_tree(start: Start, mark: str, name: str) -> None:
    """Whatever the handler does, polite or not, the end of the awaiting task is the end of its processes."""
    ctx = RecordingContext()
    task = asyncio.create_task(start(name, ctx))
    await ctx.log.until("ready")
    assert marked(mark)
    task.cancel()
    began = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - began < 4
    assert marked(mark) == set()


async def test_a_handler_that_holds_the_interpreter_disturbs_nobody(start: Start) -> None:
    """While the child's interpreter is blocked, this loop goes on as before."""
    ctx = RecordingContext()
    task = asyncio.create_task(start("hog", ctx))
    await ctx.log.until("ready")
    began = time.monotonic()
    for _ in range(50):
        await asyncio.sleep(0.01)
    assert time.monotonic() - began < 2
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_a_result_stands_though_a_thread_keeps_the_process(start: Start, mark: str) -> None:
    """A child that does not end after its result is ended, and the result counts."""
    began = time.monotonic()
    assert await start("linger", RecordingContext()) == "done"
    assert time.monotonic() - began < 6
    assert marked(mark) == set()


async def test_secrets_do_not_leave_the_child_in_clear(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Log, progress, error and traceback are masked in the child, its printed lines by what the worker knows."""
    monkeypatch.setenv("JOBDECK_SECRET_PROBE", "hunter2-hunter2")
    ctx = RecordingContext()
    with pytest.raises(ChildError, match=r"raised \*+$") as caught:
        await start("spill", ctx, key="secret://PROBE")
    sent = [entry for entry in ctx.log.entries if "stream" not in entry[2]]
    assert "hunter2" not in repr((sent, ctx.progresses, traceback.format_exception(caught.value)))
    assert sent == [("info", "logged ********", {"field": "********", "nested": '["********"]'})]
    (printed,) = (entry[1] for entry in ctx.log.entries if "stream" in entry[2])
    assert redact(printed) == "printed ********"


async def test_a_child_asks_its_worker_for_secrets(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """None is in its environment; so the worker knows each value that the child may print, and the team's rights."""
    monkeypatch.setenv("JOBDECK_SECRET_PROBE", "hunter2-hunter2")
    monkeypatch.setenv("JOBDECK_SECRET_PIN", "86753091")
    ctx = RecordingContext()
    assert await start("ask", ctx, word="secret://PROBE") == {
        "length": 15,
        "pin": "********",
        "missing": "SecretNotFound: JOBDECK_SECRET_MISSING is not set where this worker runs",
        "inherited": [],
    }
    assert [redact(line) for line in ctx.log.messages] == ["printed ******** and ********"]


async def test_a_secret_that_a_child_may_not_have_ends_it(start: Start) -> None:
    """The worker's refusal is what the caller gets, with its type."""

    def refuse(name: str) -> str:
        raise SecretNotGranted(f"secret://{name} is not granted")

    token = lookup.set(refuse)
    with pytest.raises(SecretNotGranted, match="secret://PROBE is not granted"):
        await start("ask", RecordingContext(), word="secret://PROBE")
    lookup.reset(token)


async def test_the_http_client_follows_the_workers_allow_list(start: Start) -> None:
    """The child's guarded client opens what the settings allow and nothing else."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    async with server:
        allowed = RecordingContext(settings={"http_allow": ["127.0.0.1"]})
        assert await start("fetch", allowed, word=url) == 204
        with pytest.raises(HttpError):
            await start("fetch", RecordingContext(), word=url)


async def test_cancellation_at_any_moment_leaves_nothing(start: Start, mark: str) -> None:
    """A task cancelled between the first instruction and the handler's own leaves no process."""
    for turn in range(12):
        task = asyncio.create_task(start("wait", RecordingContext()))
        await asyncio.sleep(turn * 0.03)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert marked(mark) == set()
    await_gone(lambda: marked(mark))
