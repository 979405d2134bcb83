"""Params of `sitemap_check`: which pages, how politely, and what counts as a problem."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Annotated, Final, Self, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, Field, model_validator

from jobdeck import Duration

URL_CHARS: Final = 2_048
"""Longest URL of a page (sitemaps.org: less than 2,048 characters)."""
PAGES_MAX: Final = 50_000
"""Most pages of one check (sitemaps.org: most URLs of one sitemap)."""


def _web_address(text: str) -> str:
    try:
        parts = urlsplit(text)
        host = parts.hostname if parts.scheme in ("http", "https") else None
    except ValueError:
        host = None
    if not host:
        raise ValueError("is no URL; write it like https://www.example.com/sitemap.xml")
    return text


Url: TypeAlias = Annotated[str, Field(max_length=URL_CHARS), AfterValidator(_web_address)]
_MOMENT: Final = timedelta(0)


class CheckParams(BaseModel, extra="forbid"):
    """Params of `sitemap_check`: exactly one of `sitemap` and `urls`."""

    sitemap: Url | None = Field(
        None, description="A sitemap, an index of sitemaps or a plain list of URLs; may be gzip."
    )
    urls: list[Url] | None = Field(
        None, min_length=1, max_length=5_000, description="The pages themselves, instead of a sitemap."
    )
    max_pages: int = Field(10_000, ge=1, le=PAGES_MAX, description="Check so many pages and no more.")
    concurrency: int = Field(5, ge=1, le=20, description="Pages asked for at the same time.")
    # Durations are written as people write them: this is how forms get to know them, from the JSON schema.
    timeout: Duration = Field(
        "15s",
        gt=_MOMENT,
        le=timedelta(minutes=1),
        validate_default=True,
        description="Longest time for one answer, at most 1m.",
    )
    max_redirects: int = Field(5, ge=0, le=10, description="Follow so many redirects of a page.")
    same_host: bool = Field(
        True, description="Do not leave the host of the sitemap (or the hosts of urls); report what would."
    )
    user_agent: str = Field(
        "jobdeck",
        pattern=r"^[!-~]([ -~]{0,198}[!-~])?$",
        description="User-Agent to send; robots.txt is read for it too.",
    )
    slow: Duration = Field(
        "3s",
        gt=_MOMENT,
        validate_default=True,
        description="A page that takes longer to answer is reported as slow.",
    )
    title_max: int = Field(70, ge=10, le=1_000, description="Most characters of a title.")

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.sitemap is None) == (self.urls is None):
            raise ValueError("give exactly one of sitemap and urls")
        return self

    @property
    def digest(self) -> str:
        """Equal for equal params: what was found under others is no part of a check."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    @property
    def flight_key(self) -> str:
        """One check at a time of the same pages."""
        pages = self.sitemap or "\n".join(self.urls or ())
        return hashlib.sha256(pages.encode()).hexdigest()[:32]
