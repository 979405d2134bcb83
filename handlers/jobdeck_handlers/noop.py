"""`noop`: does nothing, at once. With it operators try out queues and workers, and measure what jobdeck costs."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from jobdeck import Context, handler


class NoopParams(BaseModel, extra="forbid"):
    """Params of `noop`."""

    echo: Any = Field(None, description="Any JSON; comes back in the result.")


@handler("noop", title="Do nothing", category="system", max_attempts=1)
async def noop(ctx: Context, params: NoopParams) -> dict[str, Any]:
    """End at once; the result holds `echo` where it was given."""
    return {} if params.echo is None else {"echo": params.echo}
