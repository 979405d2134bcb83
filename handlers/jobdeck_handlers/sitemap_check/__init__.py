"""`sitemap_check`: visits the pages of a sitemap and says which of them a search engine would stumble over."""

from __future__ import annotations

from jobdeck import Context, handler
from jobdeck_handlers.sitemap_check.check import run_check
from jobdeck_handlers.sitemap_check.params import CheckParams
from jobdeck_handlers.sitemap_check.report import CheckResult

__all__ = ["CheckParams", "CheckResult", "sitemap_check"]


def _flight_key(params: CheckParams) -> str:
    return params.flight_key


@handler("sitemap_check", title="Sitemap check", category="seo", single_flight=_flight_key, max_attempts=5)
async def sitemap_check(ctx: Context, params: CheckParams) -> CheckResult:
    """Check status, redirects, canonical link, title and robots rules of the pages of a sitemap.

    What is found is stored page by page in the table `sitemap_check_pages` of the project's data file, so that a
    later attempt goes on where one stopped; the result holds the counts and the first pages with problems.
    """
    return await run_check(ctx, params)
