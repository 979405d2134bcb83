"""Handlers that make child runs; found by their module's name in the settings."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from jobdeck import Context, HttpError, ValidationError, handler


class Child(BaseModel, extra="forbid"):
    """Params of a child."""

    number: int


@handler("family_child")
async def child(ctx: Context, params: Child) -> int:
    """Answer with the square of the number."""
    return params.number**2


@handler("family_parent", max_attempts=1)
async def parent(ctx: Context) -> dict[str, Any]:
    """Make children, some of which are refused."""
    made = [await ctx.enqueue("family_child", {"number": number}, priority=1) for number in (2, 3)]
    made.append(await ctx.enqueue("family_child", {"number": 4}, delay=timedelta(hours=1), name="late one"))
    refused = []
    for job_type, params in (("family_child", {"number": "x"}), ("nobody_knows", {})):
        try:
            await ctx.enqueue(job_type, params)
        except ValidationError as error:
            refused.append(error.code)
    return {"made": [str(run_id) for run_id in made], "refused": refused}


@handler("family_line", max_attempts=1)
async def line(ctx: Context) -> list[str]:
    """Make children now and then."""
    made = []
    for number in range(10):
        made.append(str(await ctx.enqueue("family_child", {"number": number})))
        await ctx.sleep(0.02)
    return made


@handler("family_parent_in_thread", max_attempts=1)
def parent_in_thread(ctx: Context) -> str:
    """Make a child from a thread."""
    return str(ctx.enqueue_sync("family_child", {"number": 5}))


@handler("family_reader")
async def reader(ctx: Context) -> dict[str, Any]:
    """Say what the settings hold for it, and that private addresses stay closed."""
    with pytest.raises(HttpError) as caught:
        await ctx.http.request("GET", "https://127.0.0.1/")
    return {"greeting": ctx.settings["greeting"], "refused": caught.value.code}
