"""Lists of runs: pages that stay put while runs come in, and runs found by part of their id."""

from __future__ import annotations

from uuid import UUID

from jobdeck.ids import new_id, show_id
from jobdeck.model import Run, RunFilter
from jobdeck.states import Status
from jobdeck.store.lists import listing
from jobdeck.store.lists.counts import counts
from tests.store.deck import Deck, team_of


def ids_of(runs: list[Run]) -> list[UUID]:
    return [run.id for run in runs]


async def three_batches(deck: Deck) -> list[UUID]:
    """Nine runs, newest first: three moments with three runs each, so that every page boundary can fall into a tie."""
    ids: list[UUID] = []
    for _ in range(3):
        ids += await deck.enqueue_many(3)
        deck.forward(1)
    return ids[::-1]


async def test_pages_join_without_gap_or_double(deck: Deck) -> None:
    """Going down page by page finds every run once, newest first, also where created_at ties across a boundary."""
    everything = await three_batches(deck)
    for size in (1, 2, 3, 4, 5, 9, 10):
        found: list[UUID] = []
        wanted = list(everything)
        after = None
        while runs := await deck.page(limit=size, after=after):
            found += ids_of(runs)
            after = runs[-1].key
            everything.insert(0, await deck.enqueue())
        assert found == wanted, size


async def test_pages_upward(deck: Deck) -> None:
    """From the oldest page upward every run is found once, each page in the order of the list."""
    everything = await three_batches(deck)
    for size in (1, 2, 4, 9):
        page = await deck.page(limit=size, last=True)
        found = ids_of(page)
        while page := await deck.page(limit=size, before=page[0].key):
            found = ids_of(page) + found
        assert found == everything, size


async def test_a_window_between_two_places(deck: Deck) -> None:
    """`after` and `before` together bound a window at both ends, and neither end is part of it."""
    everything = await three_batches(deck)
    runs = {run.id: run for run in await deck.page()}
    top, bottom = runs[everything[1]], runs[everything[7]]
    window = await deck.page(after=top.key, before=bottom.key)
    assert ids_of(window) == everything[2:7]


async def test_a_list_is_of_one_team(deck: Deck) -> None:
    """Runs of another team are never between."""
    other = await team_of(deck.database, "other")
    mine, theirs = [], []
    for _ in range(3):
        mine.append(await deck.enqueue())
        theirs.append(await other.enqueue())
    assert ids_of(await deck.page()) == mine[::-1]
    assert ids_of(await other.page()) == theirs[::-1]
    assert ids_of(await deck.page(RunFilter(project="main"))) == mine[::-1]


async def test_a_list_leaves_the_wide_parts_out(deck: Deck) -> None:
    """Params, result and traceback are read for one run only, so a page stays small."""
    claimed = await deck.started(params='{"a":1}', tags='{"t":"x"}')
    await deck.finish(claimed, result="1")
    (listed,) = await deck.page()
    assert (listed.params, listed.result, listed.traceback, listed.tags) == (None, None, None, {})
    shown = await deck.show(claimed.id)
    assert (shown.params, shown.result, shown.tags) == ({"a": 1}, 1, {"t": "x"})


async def test_runs_by_their_ids(deck: Deck) -> None:
    """The known ones of the team as they are now; unknown and foreign ones are left out."""
    other = await team_of(deck.database, "other")
    mine = await deck.enqueue_many(3)
    foreign = await other.enqueue()
    wanted = [mine[0], new_id(), foreign, mine[2]]
    now = await deck.now()
    found = await deck.database.read(listing.by_ids, now, deck.scope, wanted)
    assert {run.id for run in found} == {mine[0], mine[2]}


async def test_whether_there_is_a_run(deck: Deck) -> None:
    """True for a run of the team, False for an unknown one."""
    run_id = await deck.enqueue()
    assert await deck.database.read(listing.exists, deck.scope, run_id) is True
    assert await deck.database.read(listing.exists, deck.scope, new_id()) is False


async def test_counts_by_stored_status(deck: Deck) -> None:
    """Every status with runs is counted, system jobs and other teams are not."""
    other = await team_of(deck.database, "other")
    for number, status in enumerate(Status, 1):
        for _ in range(number):
            await deck.with_status(status)
        for run in await deck.page(RunFilter(statuses=frozenset({Status.PENDING}))):
            # Out of the way of the next claim.
            await deck.set_run(run.id, job_type="parked")
    await deck.enqueue(job_type="system.cleanup")
    await other.enqueue()
    found = await deck.database.read(counts, deck.scope)
    assert found == {status: number for number, status in enumerate(Status, 1)}


async def test_an_id_is_found_by_every_prefix_and_tail(deck: Deck) -> None:
    """Each part of 4 to 25 characters from the front or the end finds its run, and no run that does not have it."""
    ids = await deck.enqueue_many(15)
    shown = {run_id: show_id("run", run_id).removeprefix("run_") for run_id in ids}
    target = ids[7]
    for length in range(4, 26):
        for part in (shown[target][:length], shown[target][-length:]):
            wanted = [
                run_id for run_id in ids if shown[run_id].startswith(part) or shown[run_id].endswith(part)
            ]
            assert await deck.ids_like(part) == sorted(wanted), part
            assert target in wanted


async def test_ambiguous_parts_find_all_candidates(deck: Deck) -> None:
    """Ids made at one moment share their front: such a prefix finds them all, its own tail finds one."""
    first = UUID(int=(0x0190_0000_0000 << 80) | (7 << 76) | (2 << 62) | 0b01010_00001_00010_00011)
    second = UUID(int=first.int | 1 << 40)
    third = UUID(int=first.int | 1 << 100)
    for run_id in (first, second, third):
        await deck.enqueue(id=run_id)
    shown = show_id("run", first).removeprefix("run_")
    assert await deck.ids_like(shown[:10]) == sorted([first, second])
    assert await deck.ids_like(shown[-4:]) == sorted([first, second, third])
    assert await deck.ids_like(shown[-12:]) == sorted([first, third])
    assert await deck.ids_like(show_id("run", second)[-12:]) == [second]


async def test_many_candidates_are_not_all_read(deck: Deck) -> None:
    """A prefix that a whole batch shares brings enough of them to say that it is not unique, and no more."""
    ids = await deck.enqueue_many(100)
    found = await deck.ids_like(show_id("run", ids[0]).removeprefix("run_")[:4])
    assert 1 < len(found) <= 20
    assert set(found) <= set(ids)


async def test_a_part_that_fits_nothing(deck: Deck) -> None:
    """Unknown parts, foreign runs, and parts beyond the highest id find nothing."""
    other = await team_of(deck.database, "other")
    await deck.enqueue_many(3)
    foreign = show_id("run", await other.enqueue()).removeprefix("run_")
    for part in ("0000", "zzzz", "z" * 25, foreign[-9:], foreign):
        assert await deck.ids_like(part[:25]) == [], part
