"""A supervised child: its output, its end, and that nothing of it is left."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import sys
import time
import tracemalloc
from pathlib import Path

import pytest

from jobdeck.limits import LOG_LINE_BYTES
from jobdeck.process import OutputLine, ProcessExit, SupervisedProcess, SupervisorLost
from tests.process.recording import await_gone, marked, shims_of

Env = dict[str, str]
# Starts a process that has left its session and its parent behind, as daemons do, and says when it runs.
DAEMON = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print("daemon runs", flush=True)
        time.sleep(600)
    os._exit(0)
os.wait()
"""


async def run(argv: list[str], env: Env, **options: object) -> tuple[ProcessExit, list[OutputLine]]:
    """Run to the end; how it ended and all it wrote."""
    async with SupervisedProcess(argv, env=env, **options) as process:  # type: ignore[arg-type]
        lines = [line async for line in process.lines()]
        return await process.wait(), lines


async def test_streams_and_exit_code(env: Env) -> None:
    """Both streams arrive under their names, and the exit code is the child's."""
    ended, lines = await run(["sh", "-c", "echo out; echo err >&2; exit 3"], env)
    assert sorted(lines) == [("stderr", "err"), ("stdout", "out")]
    assert (ended.returncode, ended.signal, ended.leftover) == (3, None, 0)
    assert ended.describe() == "exit code 3"


async def test_death_by_signal_is_told_from_an_exit_code(env: Env) -> None:
    """A child that is killed by a signal names it."""
    ended, _ = await run(["sh", "-c", "kill -SEGV $$"], env)
    assert ended.signal == signal.SIGSEGV
    assert ended.describe() == f"killed by SIGSEGV (signal {signal.SIGSEGV.value})"


async def test_stdin(env: Env) -> None:
    """The child reads exactly what it was given, also more than a pipe holds, and nothing by default."""
    data = b"line\n" * 100_000
    ended, lines = await run(["wc", "-c"], env, stdin=data)
    assert (ended.returncode, lines[0].text.strip()) == (0, str(len(data)))
    ended, lines = await run(["wc", "-c"], env)
    assert lines[0].text.strip() == "0"


async def test_a_child_that_never_reads_blocks_nobody(env: Env) -> None:
    """Input that is not read is no reason to wait."""
    ended, _ = await run(["true"], env, stdin=b"x" * 1_000_000)
    assert ended.returncode == 0


async def test_environment_is_exactly_what_was_given(env: Env) -> None:
    """Nothing of this process's environment and nothing of the shim's reaches the child."""
    _, lines = await run(["env"], env)
    names = {line.text.partition("=")[0] for line in lines}
    assert names - {"PWD", "SHLVL", "_", "LC_CTYPE"} == set(env)


async def test_child_has_default_signals_and_no_foreign_descriptor(env: Env) -> None:
    """What the shim ignores the child does not, and the shim's socket is not the child's."""
    script = (
        "import os, signal\n"
        "print([s.name for s in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)"
        " if signal.getsignal(s) != signal.SIG_DFL])\n"
        "print(sorted(int(f) for f in os.listdir('/proc/self/fd') if int(f) > 3))\n"
        "print(os.getsid(0) == os.getpid() == os.getpgrp())\n"
    )
    _, lines = await run([sys.executable, "-I", "-c", script], env)
    assert [line.text for line in lines] == ["[]", "[]", "True"]


async def test_working_directory(env: Env, tmp_path: Path) -> None:
    """The child runs in the folder it was given."""
    _, lines = await run(["pwd"], env, cwd=str(tmp_path))
    assert lines == [("stdout", os.path.realpath(tmp_path))]  # noqa: ASYNC240


async def test_program_is_searched_in_the_path_it_is_given(env: Env, tmp_path: Path) -> None:
    """A bare name is looked up in the child's PATH, not in the worker's."""
    program = tmp_path / "only-here"
    program.write_text("#!/bin/sh\necho found\n")
    program.chmod(0o755)
    _, lines = await run(["only-here"], env | {"PATH": f"{tmp_path}:{env['PATH']}"})
    assert lines == [("stdout", "found")]


@pytest.mark.parametrize(
    ("argv", "cwd", "error", "name"),
    [
        (["no-such-program"], None, FileNotFoundError, "no-such-program"),
        (["/etc"], None, PermissionError, "/etc"),
        (["true"], "/no/such/folder", FileNotFoundError, "/no/such/folder"),
    ],
)
async def test_what_cannot_start_says_why(
    env: Env, argv: list[str], cwd: str | None, error: type[OSError], name: str
) -> None:
    """Entering raises the operating system's error with the name at fault."""
    with pytest.raises(error) as caught:
        await run(argv, env, cwd=cwd)
    assert caught.value.filename == name


async def test_a_ten_megabyte_line_is_cut(env: Env) -> None:
    """One line beyond all bounds is cut with a mark; the next is whole."""
    script = "import sys; sys.stdout.write('x' * 10_000_000 + '\\nafter\\n')"
    _, lines = await run([sys.executable, "-I", "-c", script], env)
    assert len(lines[0].text.encode()) == LOG_LINE_BYTES
    assert lines[0].text.endswith("… (cut)")
    assert lines[1:] == [("stdout", "after")]


async def test_many_lines_are_quick_and_take_no_memory(env: Env) -> None:
    """200,000 lines for a reader slower than the child arrive in seconds, in order, in bounded memory."""
    began = time.monotonic()
    wanted = 1
    tracemalloc.start()
    async with SupervisedProcess(["seq", "200000"], env=env) as process:
        async for line in process.lines():
            assert line.text == str(wanted)
            wanted += 1
            for _ in range(50 if wanted % 1_000 == 0 else 0):
                await asyncio.sleep(0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert wanted == 200_001
    assert time.monotonic() - began < 30
    assert peak < 4_000_000


async def test_a_flood_leaves_the_loop_its_turns(env: Env) -> None:
    """While lines pour in, another task on the loop is not kept waiting."""
    gaps: list[float] = []

    async def beat() -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.005)
            gaps.append(time.monotonic() - began)

    task = asyncio.create_task(beat())
    await run(["seq", "200000"], env)
    task.cancel()
    assert len(gaps) > 5
    assert max(gaps) < 1


async def test_output_that_nobody_reads_does_not_hold_the_child(env: Env) -> None:
    """wait() alone discards the output, so a child with more of it than a pipe holds still ends."""
    async with SupervisedProcess(["seq", "200000"], env=env) as process:
        assert (await process.wait()).returncode == 0


async def test_lines_can_be_left_early(env: Env) -> None:
    """A reader that stops taking lines does not hold the child."""
    async with SupervisedProcess(["seq", "200000"], env=env) as process:
        async for line in process.lines():
            assert line.text == "1"
            break
        assert (await process.wait()).returncode == 0


async def test_output_may_end_before_the_child(env: Env) -> None:
    """The shim keeps none of the child's pipes: lines() ends when the child closes them."""
    async with SupervisedProcess(
        ["sh", "-c", "echo last; exec >&- 2>&-; exec sleep 600"], env=env
    ) as process:
        async with asyncio.timeout(10):
            assert [line.text async for line in process.lines()] == ["last"]
        process.kill()
        assert (await process.wait()).signal == signal.SIGKILL


async def test_background_processes_end_with_the_child(env: Env, mark: str) -> None:
    """What the child leaves running, in its group or as a daemon of its own session, is killed at its end."""
    began = time.monotonic()
    ended, lines = await run([sys.executable, "-c", "import os\nos.system('sleep 600 &')\n" + DAEMON], env)
    assert ended.returncode == 0
    assert lines == [("stdout", "daemon runs")]
    assert marked(mark) == set()
    assert time.monotonic() - began < 5


async def test_terminate_reaches_the_whole_tree(env: Env, mark: str) -> None:
    """SIGTERM goes to the group and to a daemon outside it, and a shell's child gets its grace, too."""
    cleanup = "trap 'echo cleaned up; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    script = f"sh -c \"{cleanup}\" & exec {sys.executable} -c '{DAEMON}\nos.kill(os.getpid(), 19)'"
    async with SupervisedProcess(["sh", "-c", script], env=env) as process:
        seen: list[str] = []
        async for line in process.lines():
            seen.append(line.text)
            if sorted(seen) == ["daemon runs", "ready"]:
                process.terminate(1.0)
        await process.wait()
    assert seen[-1] == "cleaned up"
    assert marked(mark) == set()


async def test_sigterm_comes_once(env: Env) -> None:
    """A program that takes a second SIGTERM for "now" is not rushed."""
    script = (
        "import os, signal, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: os.write(1, b'term\\n'))\n"
        "print('ready', flush=True)\n"
        "end = time.monotonic() + 0.5\n"
        "while time.monotonic() < end: time.sleep(0.05)\n"
    )
    seen = []
    async with SupervisedProcess([sys.executable, "-I", "-c", script], env=env) as process:
        async for line in process.lines():
            seen.append(line.text)
            process.terminate(30)
    assert seen == ["ready", "term"]


async def test_sigkill_follows_for_what_ignores_sigterm(env: Env, mark: str) -> None:
    """After the grace a child that ignores SIGTERM is killed, not before."""
    async with SupervisedProcess(
        ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"], env=env
    ) as process:
        await anext(process.lines())
        began = time.monotonic()
        process.terminate(0.3)
        ended = await process.wait()
    assert ended.signal == signal.SIGKILL
    assert 0.3 <= time.monotonic() - began < 3
    assert marked(mark) == set()


async def test_sigkill_reaches_a_stopped_child(env: Env) -> None:
    """A child that is stopped, so that SIGTERM waits, is killed all the same."""
    async with SupervisedProcess(["sh", "-c", "kill -STOP $$"], env=env) as process:
        process.terminate(0.1)
        assert (await process.wait()).signal in (signal.SIGKILL, signal.SIGTERM)


async def test_kill_is_at_once(env: Env) -> None:
    """kill() leaves no grace."""
    async with SupervisedProcess(["sleep", "600"], env=env) as process:
        began = time.monotonic()
        process.kill()
        assert (await process.wait()).signal == signal.SIGKILL
    assert time.monotonic() - began < 3


async def test_a_second_cancel_leaves_no_grace(env: Env, mark: str) -> None:
    """A task cancelled again while it ends its child has it killed at once and does not wait."""
    ready = asyncio.Event()

    async def hold() -> None:
        script = "trap '' TERM; echo ready; while :; do sleep 0.05; done"
        async with SupervisedProcess(["sh", "-c", script], env=env) as process:
            async for _ in process.lines():
                ready.set()

    task = asyncio.create_task(hold())
    await ready.wait()
    for _ in range(2):
        task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await task
    began = time.monotonic()
    await_gone(lambda: marked(mark))
    assert time.monotonic() - began < 1.5


async def test_leaving_the_block_ends_the_child(env: Env, mark: str) -> None:
    """An error inside the block ends the child before the error goes on."""
    with pytest.raises(ZeroDivisionError):
        async with SupervisedProcess(["sh", "-c", "sleep 600 & sleep 600"], env=env):
            raise ZeroDivisionError
    assert marked(mark) == set()


async def test_the_shim_withstands_the_signals_of_a_service_stop(env: Env) -> None:
    """SIGTERM, SIGINT and SIGHUP for everybody leave the shim in place: the worker decides."""
    async with SupervisedProcess(["sleep", "600"], env=env) as process:
        (shim,) = shims_of(os.getpid())
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            os.kill(shim, number)
        process.terminate(5)
        assert (await process.wait()).signal == signal.SIGTERM


async def test_the_loss_of_the_shim_is_an_error_and_kills_the_group(env: Env, mark: str) -> None:
    """A shim that is killed from outside takes the child's group with it, and nobody calls that a success."""
    async with SupervisedProcess(["sh", "-c", "sleep 600 & sleep 600"], env=env) as process:
        (shim,) = shims_of(os.getpid())
        os.kill(shim, signal.SIGKILL)
        with pytest.raises(SupervisorLost):
            await process.wait()
    await_gone(lambda: marked(mark))


async def test_a_pipe_held_by_a_stranger_does_not_hold_the_end(env: Env) -> None:
    """Output handed to a process that is none of the child's: what was written arrives, that is the end."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        script = (
            "import socket, sys\n"
            f"s = socket.socket(fileno={theirs.fileno()})\n"
            "socket.send_fds(s, [b'x'], [1])\n"
            "print('last words')\n"
        )
        argv = [sys.executable, "-I", "-c", script]
        async with SupervisedProcess(argv, env=env, pass_fds=[theirs.fileno()]) as process:
            lines = [line async for line in process.lines()]
            assert (await process.wait()).returncode == 0
        assert lines == [("stdout", "last words")]
        _, held, _, _ = socket.recv_fds(ours, 1, 1)
        os.close(held[0])


def descriptors() -> int:
    """How many this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_no_descriptor_is_leaked(env: Env) -> None:
    """After children that ended well, badly or never started, this process has no descriptor more."""
    await run(["true"], env)
    before = descriptors()
    for argv in (["true"], ["false"], ["no-such-program"]) * 5:
        try:
            await run(argv, env, stdin=b"x")
        except OSError:
            continue
    assert descriptors() == before


async def test_cancellation_at_any_moment_leaves_nothing(env: Env, mark: str) -> None:
    """A task cancelled at a random moment of a child's life leaves no process when it has ended.

    Cancelled twice it does not wait for their end, which follows.
    """
    dice = random.Random(7)
    script = "sleep 600 & setsid sleep 600 & echo ready; wait"
    for turn in range(100):
        own = f"{mark}.{turn}."
        task = asyncio.create_task(run(["sh", "-c", script], env | {"MARK": own}))
        await asyncio.sleep(dice.uniform(0, 0.06))
        task.cancel()
        if turn % 2:
            await asyncio.sleep(dice.uniform(0, 0.01))
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        if turn % 2 == 0:
            assert marked(own) == set()
    await_gone(lambda: marked(mark) | shims_of(os.getpid()))
