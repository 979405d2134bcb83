"""Secrets are resolved where the handler runs, and masked in everything that leaves it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel
from sqlalchemy import Connection, text

from jobdeck import Context, Secret, handler, secret
from jobdeck.errors import ValidationError
from jobdeck.states import Status
from tests.engine.bench import Bench
from tests.engine.gate import Gate

TOKEN = 'tok"en\\with\tteeth\nand lines'
PIN = "86753091"
MASK = "********"


class Login(BaseModel):
    """Params with a secret."""

    token: Secret


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Secrets in the environment, none of which this process has revealed yet."""
    monkeypatch.setattr(secret, "_revealed", ())
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
    """The error names the variable; the run may be tried again once it is there."""

    @handler("needs", max_attempts=1)
    async def needs(ctx: Context, params: Login) -> None:
        params.token.reveal()

    done = await bench.outcome(needs, {"token": "secret://missing"})
    assert done.status is Status.FAILED
    assert done.error == "LookupError: JOBDECK_SECRET_MISSING is not set where this worker runs"


async def test_a_secret_in_clear_is_refused(bench: Bench) -> None:
    """A value instead of a reference is not even stored, and the refusal does not repeat it."""

    @handler("needs")
    async def needs(ctx: Context, params: Login) -> None: ...

    with pytest.raises(ValidationError, match="secret://NAME") as caught:
        await bench.trigger(needs, {"token": "hunter2hunter2"})
    assert "hunter2" not in str(caught.value)
    assert await bench.statuses() == {}
