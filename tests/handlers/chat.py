"""A chat endpoint on loopback as OpenAI's is, that answers otherwise where a test plans it; and how rows get to it."""

from __future__ import annotations

import json
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from jobdeck_handlers.llm_batch import BatchResult, llm_batch
from tests.handlers.api import Api, Asked, Reply
from tests.handlers.context import RecordingContext
from tests.handlers.databases import Database

PATH = "/v1/chat/completions"
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


def completion(content: Any, *, usage: Any = USAGE, finish: str = "stop", **more: Any) -> Reply:
    """A usual answer."""
    message = {"role": "assistant", "content": content} | more
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return Reply({"id": "c1", "model": "m-2026", "choices": [choice], "usage": usage})


@dataclass
class Chat:
    """The endpoint. `plans` are what it answers, by prompt, before it answers `re: PROMPT`; `plan` to any prompt."""

    api: Api
    plans: dict[str, deque[Reply]] = field(default_factory=dict)
    plan: deque[Reply] = field(default_factory=deque)
    prompts: list[str] = field(default_factory=list)
    """Prompts in the order they came; one that was sent twice is there twice."""
    held: threading.Event = field(default_factory=threading.Event)
    """Unset: requests wait until it is set."""
    peak: int = 0
    """Most requests at the same time."""

    def __post_init__(self) -> None:
        self.api.routes[PATH] = self.answer
        self.held.set()
        self._lock = threading.Lock()
        self._now = 0

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(asked.body) for asked in self.api.asked]

    def answer(self, asked: Asked) -> Reply:
        prompt = json.loads(asked.body)["messages"][-1]["content"]
        with self._lock:
            self.prompts.append(prompt)
            self._now += 1
            self.peak = max(self.peak, self._now)
            planned = self.plans.get(prompt) or self.plan
            reply = planned.popleft() if planned else completion(f"re: {prompt}")
        assert self.held.wait(30)
        with self._lock:
            self._now -= 1
        return reply


def items(database: Database, count: int, start: int = 1) -> None:
    """A table of things to ask about: ids from `start`, and a text."""
    if "items" not in database.tables():
        database.execute("CREATE TABLE items (id BIGINT PRIMARY KEY, body TEXT)")
    values = ", ".join(f"({n}, 'text {n}')" for n in range(start, start + count))
    database.execute(f"INSERT INTO items VALUES {values}")


async def ask(ctx: RecordingContext, api: Api, **params: Any) -> BatchResult:
    """Run `llm_batch` over the table items into the table answers, unless `params` say otherwise."""
    source = {} if "file" in params else {"table": "items"}
    given = (
        {"base_url": api.url("/v1"), "model": "m", "prompt": "{body}", "output": "answers"} | source | params
    )
    result: BatchResult = await llm_batch(ctx, llm_batch.parse(given))
    return result


def counts(result: BatchResult) -> tuple[int, int, int]:
    """Answered, failed, skipped."""
    return result["answered"], result["failed"], result["skipped"]
