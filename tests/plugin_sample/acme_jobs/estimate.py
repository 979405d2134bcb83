"""A computation that would hold up everybody else, so it has a process of its own."""

from __future__ import annotations

import os

from pydantic import BaseModel, Field

from jobdeck import Context, handler


class EstimateParams(BaseModel):
    """How exact."""

    terms: int = Field(default=10_000, ge=1, le=10_000_000)


@handler("acme_estimate", category="science", isolation="process", timeout="1h")
def acme_estimate(ctx: Context, params: EstimateParams) -> dict[str, float]:
    """Estimate pi by Leibniz' series."""
    total = 0.0
    for term in range(params.terms):
        total += (-1) ** term / (2 * term + 1)
        if term % 1_000 == 0:
            ctx.raise_if_cancelled()
            ctx.progress(term, total=params.terms)
    return {"pi": 4 * total, "process": os.getpid()}
