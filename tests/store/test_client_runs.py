"""The client's view of runs: ids in part, pages by cursor, and requests that make no sense."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import product
from typing import Any
from uuid import UUID

import pytest

from jobdeck.client import Client
from jobdeck.errors import Conflict, NotCancellable, NotFound, UnknownJobType, ValidationError
from jobdeck.ids import new_id, show_id
from jobdeck.model import RunFilter
from jobdeck.states import AttemptOutcome
from jobdeck.store.leases import report as store_report
from tests.store.clients import REMOTE, client_of
from tests.store.deck import Deck, report, team_of
from tests.store.fleet import join


@pytest.fixture
async def client(deck: Deck) -> AsyncIterator[Client]:
    """A client of the deck's team."""
    made = client_of(deck)
    yield made
    made.close()


async def all_pages(client: Client, chosen: RunFilter, limit: int) -> list[UUID]:
    """Every run of the list, page by page."""
    found: list[UUID] = []
    cursor = None
    while True:
        page = await client.runs.list(chosen, limit=limit, cursor=cursor)
        found += [run.id for run in page.runs]
        assert page.has_more == (page.cursor is not None)
        if page.cursor is None:
            return found
        cursor = page.cursor


async def test_cursors_lead_through_the_whole_list(client: Client, deck: Deck) -> None:
    """Each run once, newest first, also where a whole batch has one created_at; the last page has no cursor."""
    ids = await deck.enqueue_many(10)
    for limit in (1, 3, 7, 10, 500):
        assert await all_pages(client, RunFilter(), limit) == ids[::-1], limit


async def test_a_cursor_goes_on_where_it_was(client: Client, deck: Deck) -> None:
    """Runs that come in meanwhile do not shift the pages below; those that left the filter are not missed."""
    ids = await deck.enqueue_many(6)
    first = await client.runs.list(RunFilter(), limit=3)
    await deck.enqueue_many(3)
    second = await client.runs.list(RunFilter(), limit=3, cursor=first.cursor)
    assert [run.id for run in first.runs + second.runs] == ids[::-1]


async def test_the_size_of_a_page_is_bounded(client: Client) -> None:
    """1 and 500 pass, 0 and 501 do not."""
    for limit in (0, -1, 501, 10**9):
        with pytest.raises(ValidationError, match=f"1 to 500 runs, not {limit}"):
            await client.runs.list(RunFilter(), limit=limit)
        for fine in (1, 500):
            assert (await client.runs.list(RunFilter(), limit=fine)).runs == ()


async def test_a_cursor_belongs_to_its_list(client: Client, deck: Deck) -> None:
    """With another filter, or another team, it is refused; a filter that moves with the clock is the same list."""
    await deck.enqueue_many(3)
    chosen = RunFilter(queue="default", since=datetime(2020, 1, 1, tzinfo=UTC))
    cursor = (await client.runs.list(chosen, limit=1)).cursor
    assert cursor is not None
    moved = replace(chosen, since=datetime(2021, 1, 1, tzinfo=UTC))
    assert len((await client.runs.list(moved, limit=1, cursor=cursor)).runs) == 1
    for other in (
        RunFilter(),
        replace(chosen, queue="slow"),
        replace(chosen, text="x"),
        replace(chosen, job_type="sync"),
        replace(chosen, project="main"),
        replace(chosen, category="sync"),
        replace(chosen, statuses=frozenset({"pending"})),
    ):
        with pytest.raises(ValidationError, match="another team or filter"):
            await client.runs.list(other, limit=1, cursor=cursor)
    stranger = client_of(await team_of(deck.database, "other"))
    with pytest.raises(ValidationError, match="another team or filter"):
        await stranger.runs.list(chosen, limit=1, cursor=cursor)
    stranger.close()


async def test_a_tampered_cursor_is_refused(client: Client, deck: Deck) -> None:
    """Any changed, cut, lengthened or invented cursor is a ValidationError and never reaches the database."""
    await deck.enqueue_many(3)
    cursor = (await client.runs.list(RunFilter(), limit=1)).cursor
    assert cursor is not None
    packed = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    flipped = [bytes(byte ^ (1 << bit if at == place else 0) for place, byte in enumerate(packed))
               for at in range(len(packed)) for bit in (0, 7)]  # fmt: skip
    broken = [base64.urlsafe_b64encode(each).rstrip(b"=").decode() for each in flipped]
    broken += [cursor[:-1], cursor[1:], cursor + "A", cursor * 2, f" {cursor}", f"{cursor}\n", f"!{cursor}"]
    broken += ["x", "%", "=", "====", "\x00", "\ud800", "ü", "2024-01-15|id", "A" * 10_000_000]
    for each in broken:
        with pytest.raises(ValidationError, match="cursor"):
            await client.runs.list(RunFilter(), limit=1, cursor=each)
    assert len((await client.runs.list(RunFilter(), limit=1, cursor=cursor)).runs) == 1


HOSTILE = ["a\x00b", "a\ud800b", "x" * 10_000_000]


async def test_hostile_filters_are_refused(client: Client, deck: Deck) -> None:
    """Text that a database could not compare is a ValidationError that names the part of the filter."""
    await deck.enqueue()
    for name, value in product(("job_type", "queue", "category", "project", "text"), HOSTILE):
        await _assert_refused(client, name, value)


async def _assert_refused(client: Client, name: str, value: str) -> None:
    chosen = RunFilter(**{name: value})  # type: ignore[arg-type]
    for ask in (client.runs.list, client.runs.page):
        with pytest.raises(ValidationError) as caught:
            await ask(chosen)
        assert caught.value.field == name
        assert caught.value.message.isprintable()
        assert len(caught.value.message) < 200


async def test_the_length_of_a_filter(client: Client) -> None:
    """512 characters pass, 513 do not."""
    assert (await client.runs.list(RunFilter(text="x" * 512, queue="q" * 512))).runs == ()
    for name in ("text", "queue"):
        with pytest.raises(ValidationError, match=f"{name} of a filter has at most 512"):
            await client.runs.list(RunFilter(**{name: "x" * 513}))  # type: ignore[arg-type]


async def test_a_time_without_a_zone_is_refused(client: Client) -> None:
    """A naive `since` or `until` is a ValidationError, not a guess."""
    naive = datetime(2026, 1, 1)  # noqa: DTZ001  what is refused
    for chosen in (RunFilter(since=naive), RunFilter(until=naive)):
        with pytest.raises(ValidationError, match="time zone"):
            await client.runs.list(chosen)


async def test_a_window_for_a_scrolling_view(client: Client, deck: Deck) -> None:
    """Newest, older than a run, newer than a run, and the oldest."""
    ids = (await deck.enqueue_many(9))[::-1]

    async def window(**place: Any) -> list[UUID]:
        found = await client.runs.page(RunFilter(), limit=3, **place)
        assert found.stopped is None
        return [run.id for run in found.runs]

    keys = {run.id: run.key for run in (await client.runs.page(RunFilter())).runs}
    assert await window() == ids[:3]
    assert await window(after=keys[ids[2]]) == ids[3:6]
    assert await window(before=keys[ids[6]]) == ids[3:6]
    assert await window(last=True) == ids[6:]


async def test_a_run_by_its_id_or_a_part_of_it(client: Client, deck: Deck) -> None:
    """The shown id, the UUID, a prefix and a tail, in any case, with and without `run_`."""
    run_id = UUID(int=new_id().int ^ (1 << 127))
    await deck.enqueue(id=run_id)
    await deck.enqueue_many(3)
    shown = show_id("run", run_id)
    for part in (shown, str(run_id), run_id.hex, shown.upper().replace("RUN_", "run_"), shown[:8], shown[4:10],
                 shown[-6:], shown[-4:].upper(), f"run_{shown[-12:]}"):  # fmt: skip
        assert await client.runs.resolve(part) == run_id, part


async def test_a_part_that_fits_several_runs(client: Client, deck: Deck) -> None:
    """It is refused with how many there are, so that more of it is given."""
    ids = await deck.enqueue_many(3)
    with pytest.raises(ValidationError, match="3 runs have an id with"):
        await client.runs.resolve(show_id("run", ids[0])[:8])
    many = await deck.enqueue_many(40)
    with pytest.raises(ValidationError, match="20 or more runs have an id with"):
        await client.runs.resolve(show_id("run", many[0])[:8])


async def test_a_part_that_fits_no_run(client: Client, deck: Deck) -> None:
    """Unknown and foreign ids are NotFound with the same words, whole or in part; nonsense is a ValidationError."""
    foreign = await (await team_of(deck.database, "other")).enqueue()
    for run_id in (foreign, new_id()):
        shown = show_id("run", run_id)
        for part in (shown, str(run_id), shown[-10:]):
            with pytest.raises(NotFound, match=r"^no run .* in this team$") as caught:
                await client.runs.resolve(part)
            assert caught.value.exit_code == 3
    for nonsense in (
        "",
        "abc",
        "run_",
        "run_abc",
        "with space",
        "ilou" * 3,
        "a\x00bc",
        "\ud800" * 5,
        "x" * 10_000_000,
    ):
        with pytest.raises(ValidationError) as refused:
            await client.runs.resolve(nonsense)
        assert len(refused.value.message) < 200


async def test_every_door_is_closed_to_other_teams(client: Client, deck: Deck) -> None:
    """Show, cancel and retry of a foreign run are NotFound; its log is empty; it is untouched."""
    other = await team_of(deck.database, "other")
    claimed = await other.started()
    await other.database.write(store_report, report(claimed, "secret"))
    for ask in (client.runs.show, client.runs.cancel, client.runs.retry):
        with pytest.raises(NotFound):
            await ask(claimed.id)
    assert await client.runs.logs(claimed.id) == await client.runs.log_tail(claimed.id) == []
    assert await client.runs.by_ids([claimed.id]) == []
    assert (await other.show(claimed.id)).label == "running"


async def test_cancel_and_retry(client: Client, deck: Deck) -> None:
    """The reply tells the truth, the record keeps actor and reason, what is refused says why."""
    run = await client.runs.trigger("sync")
    reply = await client.runs.cancel(run.id, reason="typo")
    assert (reply.status, reply.cancelled) == ("cancelled", True)
    with pytest.raises(NotCancellable):
        await client.runs.cancel(run.id)
    assert (await client.runs.show(run.id)).cancel_requested_by == "ada"
    again = await client.runs.retry(run.id, reason="was right")
    assert (again.status, again.cancel_requested_by) == ("pending", None)
    with pytest.raises(Conflict):
        await client.runs.retry(run.id)
    assert await client.runs.counts() == {"pending": 1}


async def test_a_reason_has_limits(client: Client, deck: Deck) -> None:
    """512 characters pass, 513 do not; control characters become visible text."""
    ids = await deck.enqueue_many(2)
    await client.runs.cancel(ids[0], reason="r" * 512)
    await client.runs.cancel(ids[1], reason="a\x00\x1b[2Jb\ud800")
    assert (await client.runs.show(ids[1])).cancel_reason == "a\\x00\\x1b[2Jb\\ud800"
    for action in (client.runs.cancel, client.runs.retry):
        with pytest.raises(ValidationError, match="at most 512 characters"):
            await action(ids[0], reason="r" * 513)


async def test_the_log_of_a_run(client: Client, deck: Deck) -> None:
    """From the beginning, after an entry, and its end."""
    claimed = await deck.started()
    await deck.database.write(store_report, report(claimed, *"abcde"))
    entries = await client.runs.logs(claimed.id, limit=2)
    rest = await client.runs.logs(claimed.id, after=entries[-1].id)
    assert [entry.message for entry in entries + rest] == list("abcde")
    assert [entry.message for entry in await client.runs.log_tail(claimed.id, 2)] == list("de")


async def test_a_read_that_is_refused_has_no_cause_of_its_own(client: Client) -> None:
    """A ValidationError out of a read is raised as it is: an error that is its own cause sends printers in circles."""
    with pytest.raises(ValidationError) as caught:
        await client.runs.list(RunFilter(statuses=frozenset({"nope"})))
    assert caught.value.__cause__ is None


async def test_waiting_for_a_change(client: Client, deck: Deck) -> None:
    """`changed` returns at once after a commit of anybody, and False when nothing happened in the time given."""
    await deck.enqueue()
    assert await client.changed(20)
    while await client.changed(0):
        continue
    await deck.enqueue()
    assert await client.changed(20)


async def test_the_clock_is_the_one_of_the_database(client: Client, deck: Deck) -> None:
    """`server_time_us` moves with the database, not with this machine."""
    before = await client.server_time_us()
    deck.forward(3_600)
    assert 3_600_000_000 <= await client.server_time_us() - before < 3_700_000_000


async def test_teams_and_projects(client: Client) -> None:
    """Made with a slug and a name, listed by slug; a slug or name that is none is refused."""
    team = await client.teams.create("beta", "Beta GmbH \x1b[1m")
    assert (team.slug, team.name) == ("beta", "Beta GmbH \\x1b[1m")
    assert [each.slug for each in await client.teams.list()] == ["acme", "beta"]
    project = await client.projects.create("side")
    assert (project.slug, project.name, project.team_id) == ("side", "side", client.scope.team_id)
    assert [each.slug for each in await client.projects.list()] == ["main", "side"]
    with pytest.raises(Conflict):
        await client.projects.create("side")
    for slug in ("", "Upper", "a b", "-a", "a" * 65, "a\n", "ä", "a\x00", "x" * 10_000_000):
        for create in (client.teams.create, client.projects.create):
            with pytest.raises(ValidationError) as caught:
                await create(slug)
            assert len(caught.value.message) < 300
    with pytest.raises(ValidationError, match="at most 256"):
        await client.teams.create("fine", "n" * 257)
    assert (await client.teams.create("a" * 64, "n" * 256)).slug == "a" * 64


async def test_types_as_they_are_known(client: Client, deck: Deck) -> None:
    """Registered ones are listed and shown; an unknown one names its neighbour; what is no text is unknown."""
    assert await client.types.list() == []
    await join(deck.database, REMOTE)
    assert [kind.name for kind in await client.types.list()] == ["remote"]
    assert (await client.types.show("remote")).live_workers == 1
    with pytest.raises(UnknownJobType, match="did you mean remote"):
        await client.types.show("remot")
    for name in ("", "a\x00", "\ud800"):
        with pytest.raises(UnknownJobType):
            await client.types.show(name)
    assert [worker.state for worker in await client.workers.list()] == ["idle"]


async def test_interrupted_runs_show_their_next_start(client: Client, deck: Deck) -> None:
    """A run given back is pending with its attempt kept, as `list` and `show` agree."""
    claimed = await deck.started()
    await deck.finish(claimed, AttemptOutcome.SNOOZED, retry_in_us=60_000_000)
    (listed,) = (await client.runs.list(RunFilter(statuses=frozenset({"retrying"})))).runs
    shown = await client.runs.show(claimed.id)
    assert (listed.due_at, listed.revision, listed.label) == (shown.due_at, shown.revision, "retrying")
