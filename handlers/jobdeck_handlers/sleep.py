"""`sleep`: waits, reports progress and can be cancelled at any moment. With it operators try out a fleet."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from jobdeck import Context, handler


class SleepParams(BaseModel, extra="forbid"):
    """Params of `sleep`."""

    seconds: float = Field(1.0, ge=0, le=86_400, description="How long to wait, in seconds; at most a day.")
    steps: int = Field(
        1, ge=1, le=1_000, description="Parts of equal length; progress is reported after each."
    )
    fail: bool = Field(False, description="End with an error instead of a result.")


@handler("sleep", title="Sleep", category="system")
async def sleep(ctx: Context, params: SleepParams) -> dict[str, Any]:
    """Wait `seconds` in `steps` parts; a cancel ends it at once."""
    for step in range(1, params.steps + 1):
        await ctx.sleep(params.seconds / params.steps)
        # Thousands of short sleeps are used to load a fleet: one that has no parts has nothing to report.
        if params.steps > 1:
            ctx.progress(step, total=params.steps, message=f"Slept {step} of {params.steps} steps")
    if params.fail:
        raise RuntimeError("told to fail by its params")
    return {"slept_seconds": params.seconds}
