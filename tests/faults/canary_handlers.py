"""Handlers that tell a secret in every way there is."""

from __future__ import annotations

import base64
import json
import logging
import sys
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel

from jobdeck import Context, Secret, handler


class Canaries(BaseModel):
    """One secret as a field of its type, one as a plain text."""

    secret: Secret
    plain: str


@handler("canary_child")
async def canary_child(ctx: Context, params: Canaries) -> str:
    """Stored with what its parent has handed on."""
    return params.plain


@handler("spills", max_attempts=1)
async def spills(ctx: Context, params: Canaries) -> dict[str, Any]:
    """Log, report, save, hand on and return the values."""
    for value in (params.secret.reveal(), params.plain):
        _say(ctx, value)
        await ctx.checkpoint({"value": value, "list": [f"<{value}>"]})
    await ctx.enqueue("canary_child", {"secret": params.secret, "plain": params.plain})
    return {"secret": params.secret.reveal(), "forms": _forms(params.plain), params.plain: [params.plain]}


@handler("crashes", max_attempts=1)
def crashes(ctx: Context, params: Canaries) -> None:
    """Raise with the values in messages, in the chain of causes and in local variables."""
    secret, plain = params.secret.reveal(), params.plain
    ctx.checkpoint_sync([secret, plain])
    try:
        raise KeyError(secret)
    except KeyError as error:
        error.add_note(f"a note with {plain}")
        raise ConnectionError(f"login with {secret} and {_forms(plain)} refused") from error


@handler("spills_apart", max_attempts=1, isolation="process")
async def spills_apart(ctx: Context, params: Canaries) -> dict[str, Any]:
    """The same from a process of its own, which prints them too."""
    for value in (params.secret.reveal(), params.plain):
        _say(ctx, value)
        print(value, *_forms(value), sep="\n", flush=True)
        print("x" * 8_170 + value, file=sys.stderr, flush=True)
        await ctx.checkpoint({"value": value})
    return {"secret": params.secret.reveal(), "forms": _forms(params.plain)}


@handler("crashes_apart", max_attempts=1, isolation="process")
def crashes_apart(ctx: Context, params: Canaries) -> None:
    """Raise in a process of its own."""
    secret = params.secret.reveal()
    raise ConnectionError(f"login with {secret} and {params.plain} refused")


def _say(ctx: Context, value: str) -> None:
    ctx.progress(1, message=f"at {value}")
    ctx.log.info(
        f"plain {value} and {_forms(value)}", field=value, nested={"in": [value, f"<{value}>"], value: 1}
    )
    ctx.log.warn(f"first half {value[: len(value) // 2]}")
    ctx.log.warn(f"{value[len(value) // 2 :]} second half")
    logging.getLogger("library").error("std %s", value)
    try:
        raise ValueError(value)
    except ValueError:
        logging.getLogger("library").exception("caught")


def _forms(value: str) -> list[str]:
    data = value.encode()
    return [
        base64.b64encode(data).decode(),
        base64.b64encode(b"user:" + data).decode(),
        quote(value, safe=""),
        json.dumps(value),
    ]
