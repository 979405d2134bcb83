"""What handlers say: log lines, std logging and progress, however much and however hostile."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from jobdeck import Context, handler, limits
from jobdeck.engine import mailbox
from jobdeck.engine.safe_text import safe_text
from jobdeck.model import LogEntry, Progress
from jobdeck.states import Status
from tests.engine.bench import Bench
from tests.engine.faults import FaultyDatabase
from tests.engine.gate import Gate

library = logging.getLogger("some.library")


def said(entries: list[LogEntry]) -> list[tuple[str, str]]:
    return [(entry.level, entry.message) for entry in entries]


async def test_std_logging_goes_to_the_log_of_the_run(bench: Bench) -> None:
    """From the loop, from threads and helpers of a handler, each record once, with level and logger; own ones not."""
    level = logging.root.level

    @handler("talks")
    async def talks(ctx: Context) -> None:
        library.debug("too fine")
        library.info("from %s", "the loop")
        library.critical("on fire")
        await asyncio.to_thread(library.warning, "from a helper")
        await asyncio.create_task(_says("from a task"))
        logging.getLogger("jobdeck.engine.heart").error("the engine's own")
        try:
            raise OSError("disk full")
        except OSError:
            library.exception("failed")

    @handler("talks_in_thread")
    def talks_in_thread(ctx: Context) -> None:
        library.info("from its thread")
        ctx.log.error("directly", code=7)

    ids = [await bench.trigger(talks), await bench.trigger(talks_in_thread)]
    # Two workers in a process share one root logger.
    async with bench.working(talks, talks_in_thread), bench.working(talks, talks_in_thread):
        for run_id in ids:
            assert (await bench.ended(run_id)).status is Status.COMPLETED
        library.error("of nobody's run")
    entries = await bench.logs(ids[0])
    assert said(entries) == [
        ("info", "from the loop"),
        ("error", "on fire"),
        ("warn", "from a helper"),
        ("info", "from a task"),
        ("error", "failed"),
    ]
    assert {entry.fields["logger"] for entry in entries} == {"some.library"}
    assert entries[-1].fields["exception"] == "OSError: disk full"
    assert said(await bench.logs(ids[1])) == [("info", "from its thread"), ("error", "directly")]
    assert (await bench.logs(ids[1]))[1].fields == {"code": 7}
    assert logging.root.level == level


async def _says(text: str) -> None:
    library.info(text)


async def test_the_level_stays_until_the_last_worker_ends(bench: Bench) -> None:
    """A worker that ends before another one takes nothing away from it."""

    @handler("talks")
    async def talks(ctx: Context) -> None:
        library.info("heard")

    async with bench.working(talks):
        first = bench.worker(talks)
        task = asyncio.create_task(first.run())
        await first.started.wait()
        first.stop()
        await task
        run_id = await bench.trigger(talks)
        await bench.ended(run_id)
    assert said(await bench.logs(run_id)) == [("info", "heard")]


async def test_debug_is_for_runs_that_ask_for_it(bench: Bench) -> None:
    """Debug lines are dropped, unless the run was triggered in debug mode."""

    @handler("fine")
    async def fine(ctx: Context) -> None:
        ctx.log.debug("detail")
        ctx.log.info("fact")

    ids = [await bench.trigger(fine), await bench.trigger(fine, debug_mode=True)]
    async with bench.working(fine):
        for run_id in ids:
            await bench.ended(run_id)
    assert said(await bench.logs(ids[0])) == [("info", "fact")]
    assert said(await bench.logs(ids[1])) == [("debug", "detail"), ("info", "fact")]


async def test_a_run_may_fill_its_log_but_no_more(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the cap a mark is written, then nothing, in later attempts neither; the run itself goes on."""
    monkeypatch.setattr(limits, "LOG_RUN_BYTES", 2_000)

    @handler("chatty", max_attempts=2)
    async def chatty(ctx: Context) -> None:
        for number in range(100):
            ctx.log.info(f"line {number:02}", padding="x" * 50)
        if ctx.attempt == 1:
            raise OSError

    run_id = await bench.trigger(chatty)
    async with bench.working(chatty):
        await bench.until(run_id, lambda run: run.failures)
        bench.skip(60)
        assert (await bench.ended(run_id)).status is Status.COMPLETED
    entries = await bench.logs(run_id)
    assert said(entries)[-1] == ("warn", "log truncated: the run has reached 10 MiB")
    assert [entry.message for entry in entries[:-1]] == [f"line {n:02}" for n in range(len(entries) - 1)]
    assert 15 < len(entries) < 30
    assert {entry.attempt for entry in entries} == {1}


async def test_a_line_that_is_not_kept_costs_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond 10 MiB a handler may go on talking: nobody cleans what nobody will read."""
    cleaned = []
    monkeypatch.setattr(limits, "LOG_RUN_BYTES", 2_000)

    def note(text: str, most: int) -> str:
        cleaned.append(text)
        return safe_text(text, most)

    @handler("talks_on")
    async def talks_on(ctx: Context) -> None:
        for _ in range(100):
            ctx.log.info("a line that is still heard, or no longer")
        monkeypatch.setattr(mailbox, "safe_text", note)
        ctx.log.info("nobody hears this")

    run = await bench.outcome(talks_on)
    assert run.status is Status.COMPLETED
    assert cleaned == []


async def test_progress_is_coalesced(bench: Bench) -> None:
    """Ten thousand progress calls become a few writes, and the last value is exact."""

    @handler("counts")
    async def counts(ctx: Context) -> None:
        for number in range(10_001):
            ctx.progress(number, total=10_000, failed=number // 100, skipped=number // 10)
            if number % 1_000 == 0:
                await asyncio.sleep(0.01)

    watched = FaultyDatabase(bench.database)
    run_id = await bench.trigger(counts)
    async with bench.working(counts, parts={"database": watched}, report_every=0.05):
        done = await bench.ended(run_id)
    assert done.progress == Progress(10_000, total=10_000, failed=100, skipped=1_000)
    # As many as there were flushes while it ran, on however slow a machine.
    assert 1 <= watched.calls["report"] < 200


async def test_lines_keep_their_order(bench: Bench) -> None:
    """Two thousand lines, written while others are being stored, arrive once and in order."""

    @handler("chatty")
    async def chatty(ctx: Context) -> None:
        for number in range(2_000):
            ctx.log.info(str(number))
            if number % 100 == 0:
                await asyncio.sleep(0.002)

    run_id = await bench.trigger(chatty)
    async with bench.working(chatty, report_every=0.005):
        await bench.ended(run_id)
    entries = await bench.client.runs.logs(run_id, limit=3_000)
    assert [entry.message for entry in entries] == [str(number) for number in range(2_000)]


class Mute:
    """Something that cannot be shown."""

    def __repr__(self) -> str:
        raise ZeroDivisionError


def _knot() -> dict[str, Any]:
    tied: dict[str, Any] = {}
    tied["self"] = tied
    return tied


async def test_hostile_reports_harm_nobody(bench: Bench) -> None:
    """Numbers beyond any column, control characters, half characters and things that are no JSON are made inert."""
    reported, go_on = Gate(), Gate()

    @handler("hostile")
    async def hostile(ctx: Context) -> None:
        ctx.progress(2**100, total=2**63, failed=-5, message="\x1b]0;pwned\x07\x00\ud800" + "m" * 2_000)
        ctx.log.info("\x1b[2J\u202e\x00\ud800line 1\nline 2\r")
        ctx.log.info("x" * 20_000)
        ctx.log.info("fields", **{"\x1b[2J" + "k" * 200: "\x1b\x00", "number": 2**80, "nan": float("nan")})
        ctx.log.info("no text", file="a\udcff", **{"k\udcff": 1})
        ctx.log.info("objects", thing=object, raw=b"\xff", nested={"a": {1: ["\x1b"]}})
        ctx.log.info("too many", blob="y" * 5_000)
        ctx.log.info("mute", thing=Mute())
        ctx.log.info("knot", thing=_knot())
        ctx.log.write("strange", "level", {})
        reported.open()
        await go_on.passed()

    run_id = await bench.trigger(hostile)
    async with bench.working(hostile):
        await reported.passed()
        running = await bench.until(run_id, lambda run: run.progress.processed)
        go_on.open()
        done = await bench.ended(run_id)
    assert done.status is Status.COMPLETED
    assert running.progress == done.progress
    assert (done.progress.processed, done.progress.total, done.progress.failed) == (2**53, 2**53, 0)
    assert done.progress.message.startswith("\\x1b]0;pwned\\x07\\x00\\ud800mmm")
    assert len(done.progress.message) == limits.MESSAGE_CHARS
    entries = await bench.logs(run_id)
    assert entries[0].message == "\\x1b[2J\\u202e\\x00\\ud800line 1\nline 2\\x0d"
    assert entries[1].message.endswith("… (cut)")
    assert len(entries[1].message.encode()) == limits.LOG_LINE_BYTES
    key = ("\\x1b[2J" + "k" * 200)[:63] + "…"
    assert entries[2].fields == {key: "\\x1b\\x00", "number": 2**80, "nan": "nan"}
    assert entries[3].fields == {"file": "a\\udcff", "k\\udcff": 1}
    assert entries[4].fields["nested"] == {"a": {"1": ["\\x1b"]}}
    assert entries[5].fields == {"fields": "left out: larger than 4 KiB"}
    assert entries[6].fields == {"fields": "left out: they cannot be stored (ZeroDivisionError)"}
    assert entries[7].fields == {"thing": "{'self': {...}}"}
    assert (entries[8].level, entries[8].message) == ("info", "level")


async def test_progress_keeps_what_is_not_named(bench: Bench) -> None:
    """A call changes what it names; a value that is no number is an error of the handler."""

    @handler("moves")
    async def moves(ctx: Context) -> None:
        ctx.progress(1, total=9, message="one")
        ctx.progress(failed=1)
        ctx.progress(message="two")
        with pytest.raises(ValueError, match="many"):
            ctx.progress("many")  # type: ignore[arg-type]

    done = await bench.outcome(moves)
    assert done.progress == Progress(1, total=9, failed=1, message="two")
