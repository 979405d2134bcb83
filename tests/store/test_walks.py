"""Pages that look at a bounded number of runs, joined, show what one look at all runs would show."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

import pytest

from jobdeck.client import Client
from jobdeck.client.session import Session
from jobdeck.errors import ValidationError
from jobdeck.ids import show_id
from jobdeck.model import Run, RunFilter, RunKey
from jobdeck.states import GROUPS, Label, Status
from tests.bulk import RARE
from tests.databases import opened
from tests.store.histories import History

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
async def client(short_history: History) -> AsyncIterator[Client]:
    """A client of the team with most of the runs."""
    async with opened(short_history.url) as database:
        client = Client(Session(database, short_history.made.teams["big"], None, "ada", lambda _: None))
        yield client
        client.close()


async def everything(client: Client) -> list[Run]:
    """All runs of the team but system jobs."""
    found: list[Run] = []
    while True:
        page = await client.runs.page(RunFilter(), after=found[-1].key if found else None, limit=500)
        assert page.stopped is None
        found += page.runs
        if len(page.runs) < 500:
            return found


def fits(chosen: RunFilter, run: Run) -> bool:
    """What the parts of a filter mean, in the simplest words."""
    told = (run.job_type, run.name, run.progress.message)
    return (
        (not chosen.statuses or run.status in chosen.statuses or run.label in chosen.statuses)
        and chosen.job_type in (None, run.job_type)
        and chosen.queue in (None, run.queue)
        and chosen.category in (None, run.category)
        and chosen.project in (None, run.project)
        and (chosen.since is None or run.created_at >= chosen.since)
        and (chosen.until is None or run.created_at <= chosen.until)
        and (chosen.text is None or any(chosen.text in text for text in told))
    )


def some_filters(runs: list[Run], count: int) -> list[RunFilter]:
    """Filters drawn by lot, always the same ones: each part is wanted in one of three."""
    lot = random.Random(7)
    names = [*map(str, Status), *map(str, Label)]

    def maybe(*values: str) -> str | None:
        return lot.choice(values) if lot.random() < 1 / 3 else None

    found = []
    for _ in range(count):
        statuses = lot.choice(
            [frozenset[str](), frozenset(lot.sample(names, lot.randint(1, 6))), GROUPS["failed"]]
        )
        ends = sorted(run.created_at for run in lot.sample(runs, 2))
        since, until = (end if lot.random() < 1 / 3 else None for end in ends)
        found.append(
            RunFilter(
                frozenset(statuses), maybe("type3", "type7", "rare_type"), maybe("default", "bulk", "rare_queue"),
                maybe("sync", "export", "rare_category"), maybe("web", "lab", "attic"), since, until,
                maybe("run 12", "needle", "synced", "nowhere"),
            )
        )  # fmt: skip
    return found


async def test_pages_joined_show_every_match_once(client: Client) -> None:
    """For many filters, page by page to the end and from the end up: all that fit, in order, and no others."""
    runs = await everything(client)
    broken_off = 0
    for chosen in some_filters(runs, 40):
        wanted = [run.id for run in runs if fits(chosen, run)]
        found: list[UUID] = []
        cursor = None
        while True:
            page = await client.runs.list(chosen, limit=40, cursor=cursor)
            broken_off += page.searched_to is not None
            found += [run.id for run in page.runs]
            cursor = page.cursor
            if not page.has_more:
                break
        assert found == wanted, chosen
        assert await upward(client, chosen) == wanted, chosen
    assert broken_off > 20


async def upward(client: Client, chosen: RunFilter) -> list[UUID]:
    found: list[UUID] = []
    above: RunKey | None = None
    while True:
        page = await client.runs.page(chosen, last=above is None, before=above, limit=40)
        found[:0] = [run.id for run in page.runs]
        if page.stopped is None and len(page.runs) < 40:
            return found
        above = page.stopped or page.runs[0].key


async def test_a_page_says_how_far_it_has_looked(client: Client) -> None:
    """One that ends early has everything that fits down to the time it names, and its cursor goes on from there."""
    runs = await everything(client)
    chosen = RunFilter(text="needle")
    page = await client.runs.list(chosen)
    assert page.has_more
    assert page.searched_to is not None
    assert page.runs == tuple(run for run in runs if fits(chosen, run) and run.created_at >= page.searched_to)
    rest = await client.runs.list(chosen, cursor=page.cursor)
    assert all(run.created_at < page.searched_to for run in rest.runs)


async def test_find_goes_on_until_the_page_is_full(client: Client) -> None:
    """A page of what is rare, the page after it, and nothing at the end of the list."""
    chosen = RunFilter(queue="rare_queue")
    first = await client.runs.find(chosen, limit=RARE - 5)
    assert (len(first.runs), first.has_more) == (RARE - 5, True)
    second = await client.runs.find(chosen, limit=50, cursor=first.cursor)
    assert (len(second.runs), second.has_more, second.cursor) == (5, False, None)
    assert {run.queue for run in (*first.runs, *second.runs)} == {"rare_queue"}
    nothing = await client.runs.find(RunFilter(text="nowhere"))
    assert (nothing.runs, nothing.has_more, nothing.searched_to) == ((), False, None)


async def test_a_beginning_that_too_many_share(long_history: History) -> None:
    """Refused with what to do: by how many runs it fits, or because too many ids of others begin with it."""
    async with opened(long_history.url) as database:
        big, tiny = (
            Client(Session(database, long_history.made.teams[team], None, "ada", lambda _: None))
            for team in ("big", "tiny")
        )
        part = show_id("run", (await big.runs.list(RunFilter(), limit=1)).runs[0].id)[4:8]
        with pytest.raises(ValidationError, match="or more runs have an id with"):
            await big.runs.resolve(part)
        with pytest.raises(
            ValidationError, match=r"too many ids begin with '.*'; give more of it, or its end"
        ):
            await tiny.runs.resolve(part)
        for client in (big, tiny):
            client.close()


async def test_the_end_of_an_id_is_looked_up(client: Client) -> None:
    """Six characters, as lists show them, lead to the run."""
    since = (await client.runs.list(RunFilter(), limit=1)).runs[0].created_at - timedelta(days=100)
    for run in (await client.runs.list(RunFilter(until=since), limit=20)).runs:
        assert await client.runs.resolve(show_id("run", run.id)[-6:]) == run.id
