"""A paginated API whose answer to one page can be held back: the moment at which a worker is killed or stopped."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.handlers.api import Api, Asked, Reply, serving

ROWS = 100
PAGE = 10


@dataclass
class GatedSource:
    """100 records, 10 a page. The first request for `hold_page` waits until `release` is set."""

    api: Api
    hold_page: int = 4
    reached: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)
    _held: bool = False

    def answer(self, asked: Asked) -> Reply:
        """One page, perhaps late."""
        page = int(asked.query["page"])
        if page == self.hold_page and not self._held:
            self._held = True
            self.reached.set()
            self.release.wait(60)
        first = (page - 1) * PAGE
        records = [
            {"id": number, "title": f"item {number}"} for number in range(first, min(first + PAGE, ROWS))
        ]
        return Reply({"data": records, "total": ROWS})

    @property
    def params(self) -> Mapping[str, Any]:
        """Params of the `http_sync` run that reads it."""
        return {
            "url": self.api.url("/items"),
            "records": "data",
            "pagination": {"kind": "page", "param": "page", "start": 1},
            "key": ["id"],
            "table": "items",
            "mode": "upsert",
            "total": "total",
        }

    @property
    def params_json(self) -> str:
        return json.dumps(self.params)


@contextmanager
def gated_source() -> Iterator[GatedSource]:
    """The API until the block ends; whoever still waits is let go."""
    with serving() as api:
        source = GatedSource(api)
        api.routes["/items"] = source.answer
        try:
            yield source
        finally:
            source.release.set()
