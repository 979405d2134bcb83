"""`llm_batch`: asks a language model about every row of a table or file, and never twice for what is answered."""

from __future__ import annotations

from jobdeck import Context, handler
from jobdeck_handlers.llm_batch.batch import run_batch
from jobdeck_handlers.llm_batch.params import BatchParams
from jobdeck_handlers.llm_batch.tally import BatchResult

__all__ = ["BatchParams", "BatchResult", "llm_batch"]


def _flight_key(params: BatchParams) -> str:
    return params.flight_key


@handler("llm_batch", title="LLM batch", category="ai", single_flight=_flight_key, max_attempts=5)
async def llm_batch(ctx: Context, params: BatchParams) -> BatchResult:
    """Send the rows of a table or NDJSON file to an OpenAI-compatible chat endpoint, one request each.

    Answers are stored as they come, by the row's key, with a digest of model, prompt and options. A row that has an
    answer under the same digest is never asked again, so that a retry, or another run, goes on where one stopped;
    only requests under way when a worker dies are sent, and paid for, twice.
    """
    return await run_batch(ctx, params)
