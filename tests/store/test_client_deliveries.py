"""What a client may ask to be told of, where, and what it may see and do of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from jobdeck import limits
from jobdeck.client import Client
from jobdeck.errors import NotFound, ValidationError
from jobdeck.model import BatchItem
from jobdeck.states import AttemptOutcome
from jobdeck.store.outbox.letters import Take, take
from jobdeck.store.schema import outbox, runs, webhook_secrets
from tests.store.clients import client_of
from tests.store.deck import Deck

URL = "https://hooks.example.com/ended"


@pytest.fixture
async def client(deck: Deck) -> AsyncIterator[Client]:
    """Ada's client."""
    made = client_of(deck)
    yield made
    made.close()


def url_of(chars: int) -> str:
    """A URL of this length."""
    return URL + "/" + "x" * (chars - len(URL) - 1)


async def end_all(deck: Deck) -> None:
    """Let everything that is due complete."""
    for run in await deck.claim(50):
        await deck.finish(run, AttemptOutcome.COMPLETED, result='{"n":1}')


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://hooks.example.com/", "uses http"),
        ("ftp://hooks.example.com/", "does not start with https"),
        ("https://ann:pw@hooks.example.com/", "user name or password"),
        ("https://169.254.169.254/latest", "not a public address"),
        ("https://localhost/", "private network"),
        ("https://hooks.example.com:22/", "port 22"),
        ("https://hooks.example.com/\r\nX: y", "character"),
        ("", "does not start with https"),
        (url_of(limits.URL_CHARS + 1), "at most 2,048 characters, not 2,049"),
        ("https://hooks.example.com/" + "ü" * 400, "at most 2,048 characters"),
    ],
)
async def test_a_url_that_nothing_may_be_sent_to(deck: Deck, client: Client, url: str, words: str) -> None:
    """Is refused when it is stated, with a run, in a batch, with a job; nothing is stored."""
    with pytest.raises(ValidationError, match=words) as refused:
        await client.runs.trigger("sync", callback_url=url)
    assert refused.value.field == "callback_url"
    (result,) = await client.runs.trigger_batch([BatchItem("sync", {}, {"callback_url": url})])
    assert isinstance(result.error, ValidationError)
    for facts in ({"webhook_url": url}, {"notifiers": [{"type": "webhook", "target": url}]}):
        with pytest.raises(ValidationError):
            await client.jobs.create("nightly", {"type": "sync", **facts})
    assert await deck.rows(runs) == []


async def test_the_longest_url(deck: Deck, client: Client) -> None:
    """2,048 characters are kept and told to."""
    url = url_of(limits.URL_CHARS)
    run = await client.runs.trigger("sync", callback_url=url)
    assert run.callback_url == url
    await end_all(deck)
    (found,) = await client.deliveries.list(run_id=run.id)
    assert found.endpoint == url


@pytest.mark.parametrize(
    ("notifiers", "words"),
    [
        ([{"type": "email"}], "addresses"),
        ([{"type": "email", "to": ["ann"]}], "no e-mail address"),
        ([{"type": "email", "to": ["a@example.com, b@example.com"]}], "no e-mail address"),
        ([{"type": "email", "to": ["a@b@example.com"]}], "no e-mail address"),
        ([{"type": "email", "to": ["a@example.com\nBcc: e@example.com"]}], "no e-mail address"),
        ([{"type": "email", "to": ["ü@example.com"]}], "no e-mail address"),
        ([{"type": "pager", "to": ["a@example.com"]}], "only an e-mail"),
        ([{"type": "pager", "target": "a\nb"}], "one line"),
        ([{"type": "pager", "target": "x" * (limits.URL_CHARS + 1)}], "at most 2048"),
        ([{"type": "webhook"}], "needs a URL"),
        ([{"type": "callback", "target": URL}], "stated with a run"),
        ([{"type": "no type"}], "pattern"),
        ([{"type": "pager", "on": []}], "at least 1"),
        ([{"type": "pager", "on": ["dead"]}], "completed"),
        ([{"type": "pager", "secret": "x"}], "no such field"),
        ([{"type": "pager"}] * (limits.NOTIFIERS + 1), "at most 20"),
        ([{"type": "email", "to": ["a@example.com"] * (limits.ADDRESSES + 1)}], "at most 20"),
    ],
)
async def test_a_notifier_that_could_not_work(client: Client, notifiers: list[Any], words: str) -> None:
    """Is refused with the job, in words that name it."""
    with pytest.raises(ValidationError, match=words) as refused:
        await client.jobs.create("nightly", {"type": "sync", "notifiers": notifiers})
    assert refused.value.field is not None
    assert refused.value.field.startswith("notifiers")


async def test_as_many_as_may_be(deck: Deck, client: Client) -> None:
    """20 notifiers, of which one has 20 addresses: each is written down."""
    pagers = [{"type": "pager", "target": f"crew {number}"} for number in range(limits.NOTIFIERS - 1)]
    mail = {"type": "email", "to": [f"a{number}@example.com" for number in range(limits.ADDRESSES)]}
    job = await client.jobs.create("nightly", {"type": "sync", "notifiers": [*pagers, mail]})
    await client.jobs.trigger(job.id)
    await end_all(deck)
    assert len(await deck.rows(outbox)) == limits.NOTIFIERS


async def test_a_newer_version_names_others(deck: Deck, client: Client) -> None:
    """With version_policy latest a queued run of a job that told nobody tells whom the newest version names."""
    facts = {"type": "sync", "version_policy": "latest"}
    job = await client.jobs.create("nightly", facts)
    run = await client.jobs.trigger(job.id)
    pinned = await client.jobs.create("pinned", {"type": "sync"})
    await client.jobs.trigger(pinned.id)
    for each in (job, pinned):
        await client.jobs.update(each.id, {"webhook_url": URL})
    await end_all(deck)
    assert [each.run_id for each in await client.deliveries.list()] == [run.id]


async def test_a_rerun_tells_the_same_people(deck: Deck, client: Client) -> None:
    """Of the job, and the run's own URL."""
    job = await client.jobs.create("nightly", {"type": "sync", "webhook_url": URL})
    run = await client.jobs.trigger(job.id, callback_url=URL)
    await end_all(deck)
    again = await client.runs.rerun(run.id)
    assert again.callback_url == URL
    await end_all(deck)
    found = await client.deliveries.list(run_id=again.id)
    assert sorted(each.channel for each in found) == ["callback", "webhook"]


async def test_another_url_is_another_request(client: Client) -> None:
    """Under one idempotency key the URL must not change."""
    await client.runs.trigger("sync", idempotency_key="k", callback_url=URL)
    with pytest.raises(Exception, match="key"):
        await client.runs.trigger("sync", idempotency_key="k", callback_url=URL + "/other")


async def test_secrets_leave_the_database_once(deck: Deck, client: Client) -> None:
    """They are told when they are made, and by nothing else: no list, no export, no clone has one."""
    job = await client.jobs.create("nightly", {"type": "sync", "webhook_url": URL})
    secret = (await client.webhooks.rotate(job.id)).secret
    clone = await client.jobs.clone(job.id, "copy")
    assert secret.startswith("whsec_")
    told = [
        await client.webhooks.list(),
        await client.jobs.show(job.id),
        clone,
        await client.jobs.versions(job.id),
    ]
    assert secret not in repr(told)
    assert [row["owner_id"] for row in await deck.rows(webhook_secrets)] == [job.id]
    with pytest.raises(ValidationError, match="webhook_secret"):
        await client.jobs.update(job.id, {"webhook_secret": secret})
    own = "whsec_" + "QUJD" * 8
    assert (await client.webhooks.rotate(job.id, secret=own)).secret == own
    for bad in ("whsec_QUJD", "QUJD" * 8, "whsec_" + "?" * 40, "whsec_" + "QUJD" * 22):
        with pytest.raises(ValidationError) as refused:
            await client.webhooks.rotate(job.id, secret=bad)
        assert bad not in str(refused.value)


async def test_deliveries_are_found_by_a_part_of_their_id(deck: Deck, client: Client) -> None:
    """As runs are; what is wrong is said."""
    await client.runs.trigger("sync", callback_url=URL, tags={"a": "b"})
    await end_all(deck)
    (found,) = await client.deliveries.list()
    assert await client.deliveries.resolve(found.shown_id[-6:]) == found.id
    assert await client.deliveries.resolve(found.shown_id) == found.id
    with pytest.raises(NotFound, match="jobdeck deliveries list"):
        await client.deliveries.resolve("msg_zzzzzz")
    with pytest.raises(ValidationError, match="choose from pending"):
        await client.deliveries.list(state="lost")
    for limit in (0, limits.PAGE_MAX + 1):
        with pytest.raises(ValidationError, match="limit"):
            await client.deliveries.list(limit=limit)


async def test_sent_again_it_is_the_same(deck: Deck, client: Client) -> None:
    """A delivered one too: same id, same body, as many new tries as a new one has."""
    await client.runs.trigger("sync", callback_url=URL)
    await end_all(deck)
    (found,) = await client.deliveries.list()
    before = await client.deliveries.show(found.id)
    again = await client.deliveries.resend(found.id)
    assert (again.state, again.body, again.tries_max) == ("pending", before.body, limits.DELIVERY_TRIES)
    assert abs(again.next_at - before.next_at) < timedelta(minutes=1)
    (parcel,) = await deck.database.write(take, Take(("callback",), 8, 1_000_000, {}))
    assert (parcel.message_id, parcel.body) == (found.shown_id, before.body)
