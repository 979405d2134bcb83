"""Invoices, page by page, from the company's billing API."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from jobdeck import Backoff, Retry, Secret, handler

if TYPE_CHECKING:
    from jobdeck import Context


class InvoiceParams(BaseModel, extra="forbid"):
    """Whose invoices, and from when on."""

    account: str = Field(min_length=1, max_length=64)
    token: Secret
    since: date | None = None


@handler(
    "acme_invoices",
    title="Acme invoices",
    category="sync",
    single_flight=lambda params: params.account,
    max_attempts=5,
    timeout="10m",
    backoff=Backoff(base=5, cap=600),
)
async def acme_invoices(ctx: Context, params: InvoiceParams) -> dict[str, Any]:
    """Add up the invoices of one account.

    The billing API's address stands in the server's settings: `[plugin.acme_invoices] api_url = "https://…"`.
    """
    state: dict[str, Any] = ctx.resume or {"page": 1, "count": 0, "cents": 0}
    while state["page"] is not None:
        ctx.raise_if_cancelled()
        body = await _page(ctx, params, state["page"])
        state = {
            "page": body["next"],
            "count": state["count"] + len(body["invoices"]),
            "cents": state["cents"] + sum(invoice["cents"] for invoice in body["invoices"]),
        }
        await ctx.checkpoint(state)
        ctx.progress(state["count"], total=body["total"], message=f"read {state['count']} invoices")
    return {"invoices": state["count"], "cents": state["cents"]}


async def _page(ctx: Context, params: InvoiceParams, number: int) -> dict[str, Any]:
    query = {"page": str(number)} | ({"since": params.since.isoformat()} if params.since else {})
    answer = await ctx.http.request(
        "GET",
        f"{ctx.settings['api_url']}/accounts/{params.account}/invoices",
        params=query,
        headers={"Authorization": f"Bearer {params.token.reveal()}"},
    )
    if answer.status == 429:
        raise Retry("the billing API is busy", after=f"{answer.headers.get('Retry-After', '30')}s")
    if not answer.ok:
        raise RuntimeError(f"the billing API answered {answer.status}: {answer.text}")
    body: dict[str, Any] = answer.json()
    ctx.log.info("read a page", page=number, invoices=len(body["invoices"]))
    return body
