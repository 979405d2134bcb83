"""Secrets are resolved where the handler runs, and masked in everything that leaves it."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel, Field
from sqlalchemy import Connection, text

from jobdeck import Backoff, Context, Secret, handler, limits
from jobdeck.errors import ValidationError
from jobdeck.ids import new_id
from jobdeck.secret import redaction
from jobdeck.secret.vault import Vault
from jobdeck.states import Status
from tests.engine import isolated_handlers
from tests.engine.bench import Bench, outcomes
from tests.engine.gate import Gate

TOKEN = 'tok"en\\with\tteeth\nand lines'
PIN = "86753091"
HEX = "f3a9c1d27b604e58a1b2c3d49e8f7061"
MASK = "********"


class Login(BaseModel):
    """Params with a secret."""

    token: Secret


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Secrets in the environment, none of which this process has revealed yet."""
    monkeypatch.setattr(redaction, "_known", redaction.NOTHING)
    monkeypatch.setenv("JOBDECK_SECRET_TOKEN", TOKEN)
    monkeypatch.setenv("JOBDECK_SECRET_PIN", PIN)
    return iter(())


def everything(conn: Connection) -> str:
    """All that is stored about runs, as one text."""
    tables = ("runs", "leases", "attempts", "run_events", "run_logs", "checkpoints")
    return "\n".join(str(row) for table in tables for row in conn.execute(text(f"SELECT * FROM {table}")))


async def test_a_secret_is_masked_wherever_it_turns_up(bench: Bench) -> None:
    """Log, std logging, fields, progress, result, error and traceback of a run never hold its value."""
    reported, go_on = Gate(), Gate()

    @handler("leaks")
    async def leaks(ctx: Context, params: Login) -> dict[str, Any]:
        value = params.token.reveal()
        assert value == TOKEN
        ctx.progress(message=f"{'.' * 490}{value}")
        ctx.log.info(f"using {value}!", header=f"Bearer {value}", **{value: [value]})
        logging.getLogger("lib").warning("with %s", value)
        reported.open()
        await go_on.passed()
        return {"token": value, "nested": [{value: f"<{value}>"}]}

    @handler("crashes", max_attempts=1)
    def crashes(ctx: Context, params: Login) -> None:
        raise ConnectionError(f"login with {params.token.reveal()} refused")

    run_id = await bench.trigger(leaks, {"token": "secret://token"})
    crash_id = await bench.trigger(crashes, {"token": "secret://token"})
    async with bench.working(leaks, crashes):
        await reported.passed()
        running = await bench.until(run_id, lambda run: run.progress.message)
        assert running.progress.message == "." * 490 + MASK
        go_on.open()
        done, failed = await bench.ended(run_id), await bench.ended(crash_id)
    assert done.params == {"token": "secret://token"}
    assert done.result == {"token": MASK, "nested": [{MASK: f"<{MASK}>"}]}
    entries = await bench.logs(run_id)
    assert [entry.message for entry in entries] == [f"using {MASK}!", f"with {MASK}"]
    assert entries[0].fields == {"header": f"Bearer {MASK}", MASK: [MASK]}
    assert failed.error == f"ConnectionError: login with {MASK} refused"
    assert failed.traceback is not None
    stored = await bench.read(everything)
    # The first and the last words of the secret, whatever was escaped between them.
    assert "teeth" not in stored
    assert "and lines" not in stored


async def test_a_secret_of_digits_is_masked_in_numbers(bench: Bench) -> None:
    """A result stays JSON when a secret happens to be a number in it."""

    @handler("counts")
    async def counts(ctx: Context, params: Login) -> dict[str, Any]:
        pin = int(params.token.reveal())
        ctx.log.info("pin", pin=pin, near=pin // 10)
        return {"pin": pin, "other": 7, "yes": True}

    done = await bench.outcome(counts, {"token": "secret://pin"})
    assert done.result == {"pin": MASK, "other": 7, "yes": True}
    assert (await bench.logs(done.id))[0].fields == {"pin": MASK, "near": 8675309}


async def test_a_secret_within_another_leaves_nothing_in_sight(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where one secret begins like another, the longer one is masked whole."""
    monkeypatch.setenv("JOBDECK_SECRET_LONG", f"{PIN}-and-more")

    @handler("both")
    async def both(ctx: Context, params: Login) -> str:
        short = Secret("secret://pin").reveal()
        return f"{short} {params.token.reveal()}"

    assert (await bench.outcome(both, {"token": "secret://long"})).result == f"{MASK} {MASK}"


async def test_a_secret_that_is_not_set_says_so(bench: Bench) -> None:
    """The error names the variable; the run is tried again by its rule, perhaps by a worker that has it."""

    @handler("needs", max_attempts=2, backoff=Backoff(base=0))
    async def needs(ctx: Context, params: Login) -> None:
        params.token.reveal()

    done = await bench.outcome(needs, {"token": "secret://missing"})
    assert (done.status, done.failure_kind, outcomes(done)) == (Status.DEAD, "error", ["error", "error"])
    assert done.error == "SecretNotFound: JOBDECK_SECRET_MISSING is not set where this worker runs"


async def test_a_secret_in_clear_is_refused(bench: Bench) -> None:
    """A value instead of a reference is not even stored, and the refusal does not repeat it."""

    @handler("needs")
    async def needs(ctx: Context, params: Login) -> None: ...

    with pytest.raises(ValidationError, match="secret://NAME") as caught:
        await bench.trigger(needs, {"token": "hunter2hunter2"})
    assert "hunter2" not in str(caught.value)
    assert await bench.statuses() == {}


class Anything(BaseModel):
    """Params of several kinds."""

    note: str = Field(min_length=10)
    token: Secret | None = None
    more: dict[str, Any] = {}


async def test_references_are_filled_in_and_the_params_checked_again(bench: Bench) -> None:
    """The handler gets values wherever a text was a reference; what is stored and shown stays the reference."""
    seen: list[Anything] = []

    @handler("takes", max_attempts=3)
    async def takes(ctx: Context, params: Anything) -> str:
        seen.append(params)
        return params.note

    params = {
        "note": "secret://TOKEN",
        "token": "secret://TOKEN",
        "more": {"x": ["secret://PIN", "secret://PIN!"]},
    }
    done = await bench.outcome(takes, params)
    assert (done.params, done.result) == (params, MASK)
    (got,) = seen
    assert (got.note, got.token) == (TOKEN, Secret("secret://TOKEN"))
    assert got.more == {"x": [PIN, "secret://PIN!"]}
    wrong = await bench.outcome(takes, {"note": "secret://PIN"})
    assert (wrong.status, wrong.failure_kind, outcomes(wrong)) == (Status.FAILED, "invalid_params", ["error"])
    assert wrong.error == "params of takes: note: String should have at least 10 characters"
    assert len(seen) == 1
    assert PIN not in await bench.read(everything)


async def test_another_team_cannot_use_a_secret_that_is_not_granted(bench: Bench) -> None:
    """A clear error at once, whatever max_attempts says, and the handler is not called."""
    called: list[str] = []

    @handler("needs", max_attempts=5)
    async def needs(ctx: Context, params: Anything) -> None:
        called.append(params.note)

    for isolated in (needs, isolated_handlers.isolated_leaks):
        params = {"note": "secret://TOKEN"} if isolated is needs else {"token": "secret://TOKEN"}
        run_id = await bench.trigger(isolated, params, max_attempts=5)
        vault = Vault(grants={"TOKEN": ["others"]}, open_to_all=False)
        async with bench.working(isolated, parts={"secrets": vault.for_team}):
            done = await bench.ended(run_id)
        assert (done.status, done.failure_kind, outcomes(done)) == (Status.FAILED, "error", ["error"])
        assert done.error == (
            "secret://TOKEN is not granted to the team acme; "
            "name the team under [secrets.teams] in the worker's configuration"
        )
    assert called == []


async def test_a_granted_secret_is_found_by_the_team_of_the_run(bench: Bench) -> None:
    """In the handler, in threads that it starts itself, and in a process of its own."""

    @handler("threads")
    def threads(ctx: Context, params: Anything) -> int:
        own, found = Secret("secret://PIN"), list[str]()
        for secret in (params.token, own):
            assert secret is not None
            thread = threading.Thread(target=lambda secret=secret: found.append(secret.reveal()))
            thread.start()
            thread.join()
        return len(found)

    grants = {"TOKEN": ["acme"], "PIN": ["acme"]}
    parts = {"secrets": Vault(grants=grants, open_to_all=False).for_team}
    ids = [
        await bench.trigger(threads, {"note": "secret://TOKEN", "token": "secret://TOKEN"}),
        await bench.trigger(isolated_handlers.isolated_leaks, {"token": "secret://TOKEN"}),
    ]
    async with bench.working(threads, isolated_handlers.isolated_leaks, parts=parts):
        in_threads, apart = [await bench.ended(run_id) for run_id in ids]
    assert in_threads.result == 2
    assert apart.result == f"token {MASK}"
    lines = " ".join(entry.message for entry in await bench.logs(apart.id))
    assert f"printed {MASK}" in lines
    assert "teeth" not in await bench.read(everything)


async def test_what_a_run_hands_on_holds_no_value(bench: Bench) -> None:
    """A child gets the reference, a checkpoint the mask; a value inside of a longer param is refused."""
    given: list[Any] = []

    async def keep(_run: Any, _type: str, params: Any, options: Any) -> UUID:
        given.append((params, options))
        return new_id()

    @handler("parent", max_attempts=1)
    async def parent(ctx: Context, params: Anything) -> None:
        await ctx.enqueue("child", {"a": params.note, "b": params.token, "c": 1}, metadata={"t": params.note})
        await ctx.checkpoint({"at": params.note, "next_token": "page 2"})
        with pytest.raises(ValidationError, match="a secret in clear"):
            await ctx.enqueue("child", {"a": f"Bearer {params.note}"})
        raise RuntimeError("to leave the checkpoint")

    run_id = await bench.trigger(
        parent, {"note": "secret://TOKEN", "token": "secret://TOKEN"}, max_attempts=2
    )
    async with bench.working(parent, parts={"enqueue_child": keep}):
        await bench.until(run_id, lambda run: run.attempts and run.attempts[0].outcome)
        checkpoints = await bench.read(
            lambda conn: conn.execute(text("SELECT state FROM checkpoints")).scalars().all()
        )
    assert given == [
        ({"a": "secret://TOKEN", "b": "secret://TOKEN", "c": 1}, {"metadata": {"t": "secret://TOKEN"}})
    ]
    assert [json.loads(state) for state in checkpoints] == [{"at": MASK, "next_token": "page 2"}]


async def test_what_has_the_name_of_a_secret_is_masked(bench: Bench) -> None:
    """Fields of the log and members of a result, though nobody ever revealed the value; counts stay."""

    @handler("names")
    async def names(ctx: Context) -> dict[str, Any]:
        ctx.log.info(
            "sent", headers={"Authorization": "Bearer abc", "Accept": "*/*"}, api_key="abc", token_count=3
        )
        ctx.log.info("GET https://me:hunter2@h/x?access_token=abc&page=2")
        return {"access_token": "abc", "token_count": 3, "rows": [{"password": "abc", "id": 1}]}

    done = await bench.outcome(names)
    assert done.result == {"access_token": MASK, "token_count": 3, "rows": [{"password": MASK, "id": 1}]}
    first, second = await bench.logs(done.id)
    assert first.fields == {
        "headers": {"Authorization": MASK, "Accept": "*/*"}, "api_key": MASK, "token_count": 3,
    }  # fmt: skip
    assert second.message == f"GET https://me:{MASK}@h/x?access_token={MASK}&page=2"


async def test_a_secret_cut_in_two_lines_is_masked(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two log lines that continue each other, and the line of a child that is cut at its limit."""
    monkeypatch.setenv("JOBDECK_SECRET_HEX", HEX)

    @handler("cuts")
    async def cuts(ctx: Context, params: Login) -> str:
        value = params.token.reveal()
        ctx.log.info(f"key {value[:15]}")
        ctx.log.info(f"{value[15:]} end")
        ctx.log.info("x" * (limits.LOG_LINE_BYTES - 20) + value)
        return "y" * 2_000 + value[:15]

    done = await bench.outcome(cuts, {"token": "secret://hex"})
    lines = [entry.message for entry in await bench.logs(done.id)]
    assert lines[:2] == [f"key {MASK}", f"{MASK} end"]
    stored = await bench.read(everything)
    assert not any(HEX[at : at + 8] in stored for at in range(len(HEX) - 7))
