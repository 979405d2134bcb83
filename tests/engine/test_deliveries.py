"""Workers send what was written down: signed, again where it must be, and never at the expense of runs."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from standardwebhooks.webhooks import WebhookVerificationError

from jobdeck import Context, Discard, Retry, handler, limits
from jobdeck.delivery import MakeSender
from jobdeck.delivery.package import PackageSender
from jobdeck.engine.worker import WorkerEnd
from jobdeck.ids import new_id, show_id
from jobdeck.notifiers import Delivery, Notification
from jobdeck.states import Status
from tests.engine.bench import Bench
from tests.engine.post import id_of, mailing, verified, webhooks
from tests.handlers.api import Api, Asked, Reply, serving

# Seconds; a stop that waits for a receiver takes the 15 s of its deadline.
AT_ONCE = 8.0


@handler("work", max_attempts=1)
async def work(ctx: Context) -> dict[str, int]:
    """Give a result."""
    return {"pages": 3}


@handler("fails", max_attempts=1)
async def fails(ctx: Context) -> None:
    """Fail, with words that want to be more than words."""
    raise RuntimeError("no\r\nBcc: eve@example.com\x1b[31m")


@pytest.fixture
def api() -> Iterator[Api]:
    """Takes notifications at /hook, and at any path that a test adds."""
    with serving() as made:
        made.routes["/hook"] = lambda _: Reply()
        yield made


async def delivery(bench: Bench, run_id: UUID | None = None, **facts: Any) -> Delivery:
    """The one delivery, of a run or of all, as soon as it has these facts."""

    async def look() -> Delivery | None:
        found = await bench.client.deliveries.list(run_id=run_id)
        if len(found) != 1:
            return None
        return found[0] if all(getattr(found[0], name) == value for name, value in facts.items()) else None

    return await bench.eventually(look)


async def test_a_callback_arrives_signed(bench: Bench, api: Api) -> None:
    """The reference library takes it by the secret that was shown; it says what the run is, its result included."""
    secret = (await bench.client.webhooks.rotate()).secret
    run_id = await bench.trigger(work, callback_url=api.url("/hook"))
    async with bench.working(work, parts={"senders": webhooks()}):
        found = await delivery(bench, state="delivered")
    (asked,) = api.asked
    said = verified(asked, secret)
    assert (asked.method, asked.headers["Content-Type"]) == ("POST", "application/json")
    assert (said["type"], said["data"]["run_id"], said["data"]["result"]) == (
        "run.completed", show_id("run", run_id), {"pages": 3},
    )  # fmt: skip
    assert id_of(asked) == found.shown_id
    shown = await bench.client.deliveries.show(found.id)
    assert (shown.body or "").encode() == asked.body
    assert (found.tries, found.response_code, found.last_error) == (1, 200, None)
    with pytest.raises(WebhookVerificationError):
        verified(asked, (await bench.client.webhooks.rotate(drop_old=True)).secret)


async def test_without_a_secret_there_is_no_signature(bench: Bench, api: Api) -> None:
    """Nobody could check one; the id is there all the same."""
    await bench.trigger(work, callback_url=api.url("/hook"))
    async with bench.working(work, parts={"senders": webhooks()}):
        found = await delivery(bench, state="delivered")
    (asked,) = api.asked
    assert "webhook-signature" not in {name.lower() for name in asked.headers}
    assert id_of(asked) == found.shown_id


async def test_it_is_sent_again_until_it_is_taken(bench: Bench, api: Api) -> None:
    """The same id and body at every try, a signature of its own at each; what was said against it is kept, inert."""
    secret = (await bench.client.webhooks.rotate()).secret
    api.plan.extend(
        [Reply(b"\x1b[2Jdown\nsecond", status=503), Reply(status=302, headers={"Location": "/hook"})]
    )
    await bench.trigger(work, callback_url=api.url("/hook"))
    async with bench.working(work, parts={"senders": webhooks()}):
        found = await delivery(bench, tries=1, state="pending")
        assert (found.response_code, found.last_error) == (503, "it answered 503: \\x1b[2Jdown")
        bench.skip(limits.DELIVERY_BASE)
        found = await delivery(bench, tries=2, state="pending")
        assert found.response_code == 302
        bench.skip(limits.DELIVERY_BASE * limits.DELIVERY_FACTOR)
        await delivery(bench, tries=3, state="delivered")
    assert len({id_of(asked) for asked in api.asked}) == 1
    assert len({asked.body for asked in api.asked}) == 1
    assert len([verified(asked, secret) for asked in api.asked]) == 3


async def test_a_receiver_says_how_long_to_wait(bench: Bench, api: Api) -> None:
    """Retry-After goes before a shorter wait, up to a bound."""
    api.plan.extend(Reply(status=429, headers={"Retry-After": after}) for after in ("3000", "86000"))
    await bench.trigger(work, callback_url=api.url("/hook"))
    async with bench.working(work, parts={"senders": webhooks()}):
        first = await delivery(bench, tries=1, state="pending")
        assert timedelta(seconds=2_990) < first.next_at - first.created_at < timedelta(seconds=3_060)
    bench.skip(3_060)
    # Another worker: this one keeps away from the host for as long as it was asked to, by its own clock.
    async with bench.working(work, parts={"senders": webhooks()}):
        second = await delivery(bench, tries=2, state="pending")
    wait = second.next_at - second.created_at - timedelta(seconds=3_060)
    assert abs(wait.total_seconds() - limits.DELIVERY_CAP) < 60


async def test_gone_is_gone(bench: Bench, api: Api) -> None:
    """An endpoint that answers 410 is asked once, for this run and all to come, until somebody enables it."""
    api.plan.append(Reply(status=410))
    await bench.trigger(work, callback_url=api.url("/hook"))
    async with bench.working(work, parts={"senders": webhooks()}):
        first = await delivery(bench, state="disabled")
        second = await bench.trigger(work, callback_url=api.url("/hook"))
        missed = await delivery(bench, second, state="disabled")
        assert len(api.asked) == 1
        (endpoint,) = (await bench.client.webhooks.list()).disabled
        await bench.client.webhooks.enable(endpoint.shown_id)
        await bench.client.deliveries.resend(missed.id)
        await delivery(bench, second, state="delivered")
    assert [id_of(asked) for asked in api.asked] == [first.shown_id, missed.shown_id]


async def test_a_private_address_gets_nothing(bench: Bench, api: Api) -> None:
    """Whatever a client was allowed to ask for, a worker whose configuration does not open it sends nothing there."""
    await bench.trigger(work, callback_url=api.url("/hook"))
    async with bench.working(work, parts={"senders": webhooks("10.0.0.0/8")}):
        found = await delivery(bench, state="failed")
    assert api.asked == []
    assert "[http] allow" in (found.last_error or "")


async def test_a_slow_receiver_holds_nobody_up(bench: Bench, api: Api) -> None:
    """Neither other receivers, though more wait for it than a worker sends at a time, nor the worker's end.

    What was under way is there for others at once.
    """
    free = threading.Event()

    def hang(_: Asked) -> Reply:
        free.wait(30)
        return Reply()

    slow = [api.url(f"/slow{number}") for number in range(limits.DELIVERY_PARALLEL * 2)]
    api.routes |= dict.fromkeys((f"/slow{number}" for number in range(len(slow))), hang)
    for url in slow:
        await bench.trigger(work, callback_url=url)
    quick = await bench.trigger(work, callback_url=api.url("/hook").replace("127.0.0.1", "localhost"))
    try:
        async with bench.working(work, parts={"senders": webhooks()}):
            await delivery(bench, quick, state="delivered")
            begun = time.monotonic()
        assert time.monotonic() - begun < AT_ONCE
        found = await bench.client.deliveries.list()
        assert {each.state for each in found} == {"delivered", "pending"}
        tried = [each for each in found if each.state == "pending" and each.tries]
        assert len(tried) == limits.DELIVERY_PER_RECEIVER
    finally:
        free.set()


async def test_time_is_short(bench: Bench, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A receiver that does its work and does not answer in time is asked again: the same, under the same id."""
    monkeypatch.setattr(limits, "DELIVERY_DEADLINE", 0.3)
    free = threading.Event()

    def hang(_: Asked) -> Reply:
        free.wait(30)
        return Reply()

    api.routes["/slow"] = hang
    await bench.trigger(work, callback_url=api.url("/slow"))
    try:
        async with bench.working(work, parts={"senders": webhooks()}):
            found = await delivery(bench, tries=1, state="pending")
            assert "did not finish within 0.3 s" in (found.last_error or "")
            free.set()
            bench.skip(limits.DELIVERY_BASE)
            await delivery(bench, tries=2, state="delivered")
    finally:
        free.set()
    assert len({id_of(asked) for asked in api.asked}) == 1
    (run,) = [await bench.run(found.run_id)]
    assert run.status is Status.COMPLETED


async def test_a_drain_sends_what_is_due(bench: Bench, api: Api) -> None:
    """A worker that ends when nothing is left to do has told how the last run ended."""
    await bench.trigger(work, callback_url=api.url("/hook"))
    worker = bench.worker(work, parts={"senders": webhooks()}, drain=True)
    assert await worker.run() is WorkerEnd.DRAINED
    assert (await delivery(bench)).state == "delivered"


async def test_mail_of_a_failure(bench: Bench) -> None:
    """One plain message to each address of the team; what the error says stays words, in the body."""
    with mailing() as box:
        run_id = await bench.trigger(fails, notify=True)
        teams = {"acme": ["ops@example.com", "ann@example.com"]}
        async with bench.working(fails, parts={"senders": box.senders(teams=teams, to=("all@example.com",))}):
            found = await delivery(bench, state="delivered")
    (message,) = box.messages
    assert box.to == [["ops@example.com", "ann@example.com"]]
    assert message["Subject"] == "[acme] fails: failed"
    assert message["Message-ID"] == f"<{found.shown_id}@example.com>"
    assert message["Bcc"] is None
    text = message.get_content()
    assert message.get_content_type() == "text/plain"
    assert show_id("run", run_id) in text
    assert "Bcc: eve@example.com\\x1b[31m" in text
    assert "\x1b" not in text


async def test_mail_that_has_arrived_in_part(bench: Bench) -> None:
    """Whom the server refused for now gets it by a later try; who has it gets it once; then it is delivered."""
    with mailing() as box:
        box.answers["ops@example.com"] = "450 greylisted"
        await bench.trigger(work, notify=True)
        parts = {"senders": box.senders(to=("ops@example.com", "ann@example.com"))}
        async with bench.working(work, parts=parts):
            found = await delivery(bench, state="pending", tries=1)
            assert (found.response_code, found.endpoint) == (450, "ops@example.com")
            assert found.last_error == "not taken yet for ops@example.com; the others have it"
            del box.answers["ops@example.com"]
            bench.skip(limits.DELIVERY_BASE * 2)
            found = await delivery(bench, state="delivered")
    assert box.to == [["ann@example.com"], ["ops@example.com"]]
    assert (found.tries, found.last_error) == (2, None)
    first, second = box.messages
    assert first["Message-ID"] == second["Message-ID"]


async def test_without_a_server_mail_waits_for_a_worker_that_has_one(bench: Bench, api: Api) -> None:
    """A worker without [smtp] leaves it; one with it sends it."""
    await bench.trigger(work, notify=True)
    async with bench.working(work, parts={"senders": webhooks()}):
        await bench.ended((await delivery(bench)).run_id)
    assert (await delivery(bench)).state == "pending"
    with mailing() as box:
        async with bench.working(work, parts={"senders": box.senders(to=("all@example.com",))}):
            await delivery(bench, state="delivered")
        assert box.to == [["all@example.com"]]


async def by_package(bench: Bench, deliver: Any, **facts: Any) -> Delivery:
    """What becomes of a notification whose type a package has brought."""
    definition = {"type": "work", "notifiers": [{"type": "pager", "target": "crew"}]}
    bench.offer(work)
    job = await bench.client.jobs.create(f"job-{new_id().hex[-6:]}", definition)
    run = await bench.client.jobs.trigger(job.id)
    senders: Mapping[str, MakeSender] = {"pager": lambda: PackageSender(deliver, {"key": "k"})}
    async with bench.working(work, parts={"senders": senders}):
        return await delivery(bench, run.id, **facts)


async def test_a_notifier_of_a_package(bench: Bench) -> None:
    """It gets the message, its target and its settings; `Discard` ends it, `Retry` states the wait."""
    got: list[tuple[Notification, Mapping[str, Any]]] = []

    async def deliver(message: Notification, settings: Mapping[str, Any]) -> None:
        got.append((message, settings))
        if len(got) == 2:
            raise Discard("no such crew\x1b[31m")
        if len(got) == 3:
            raise Retry("later", after=3_000)
        if len(got) == 4:
            raise ValueError("a bug")

    found = await by_package(bench, deliver, state="delivered")
    message, settings = got[0]
    assert (message.id, message.event, message.target) == (found.shown_id, "run.completed", "crew")
    assert (message.run["status"], settings) == ("completed", {"key": "k"})
    assert json.loads(message.body)["type"] == message.event
    discarded = await by_package(bench, deliver, state="failed")
    assert (discarded.tries, discarded.last_error) == (1, "no such crew\\x1b[31m")
    later = await by_package(bench, deliver, state="pending", tries=1)
    assert later.next_at - later.created_at >= timedelta(seconds=2_990)
    broken = await by_package(bench, deliver, state="pending", tries=1)
    assert broken.last_error == "ValueError: a bug"


class Own(BaseException):
    """What `except Exception` lets through."""


class Mute(Exception):
    """Fails once more when it is asked what it says."""

    def __str__(self) -> str:
        raise SystemExit(3)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (SystemExit(3), "SystemExit: 3"),
        (KeyboardInterrupt("now"), "KeyboardInterrupt: now"),
        (asyncio.CancelledError("mine"), "CancelledError: the sender has cancelled itself"),
        (Own("own"), "Own: own"),
        (Mute(), "Mute: it has no text"),
    ],
)
async def test_whatever_a_notifier_raises_is_one_failed_try(
    bench: Bench, error: BaseException, said: str
) -> None:
    """It costs this notification one try of eight, and the worker goes on."""

    async def deliver(_message: Notification, _settings: Mapping[str, Any]) -> None:
        raise error

    definition = {"type": "work", "notifiers": [{"type": "pager", "target": "crew"}]}
    bench.offer(work)
    job = await bench.client.jobs.create("job", definition)
    run = await bench.client.jobs.trigger(job.id)
    senders: Mapping[str, MakeSender] = {"pager": lambda: PackageSender(deliver, {})}
    async with bench.working(work, parts={"senders": senders}):
        found = await delivery(bench, run.id, tries=1, state="pending")
        assert found.last_error == said
        assert (await bench.ended(await bench.trigger(work))).status is Status.COMPLETED
        bench.skip(limits.DELIVERY_BASE * 2)
        await delivery(bench, run.id, tries=2, state="pending")


async def test_a_notifier_that_cancels_its_task_is_one_failed_try(bench: Bench) -> None:
    """Whoever does so means itself, and not the worker."""

    async def deliver(_message: Notification, _settings: Mapping[str, Any]) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(30)

    found = await by_package(bench, deliver, state="pending", tries=1)
    assert found.last_error == "CancelledError: the sender has cancelled itself"


async def test_settings_of_a_notifier_stay_out_of_its_errors(bench: Bench) -> None:
    """An address with a key in it, wherever it stands in the settings."""
    address = "https://pages.example.com/hook/T0/k3y-of-ours"

    async def deliver(_message: Notification, settings: Mapping[str, Any]) -> None:
        raise ValueError(f"nobody answers at {settings['crews'][0]['url']} in {settings['area']}")

    definition = {"type": "work", "notifiers": [{"type": "pager", "target": "crew"}]}
    bench.offer(work)
    job = await bench.client.jobs.create("job", definition)
    run = await bench.client.jobs.trigger(job.id)
    settings = {"crews": [{"url": address}], "area": "north"}
    senders: Mapping[str, MakeSender] = {"pager": lambda: PackageSender(deliver, settings)}
    async with bench.working(work, parts={"senders": senders}):
        found = await delivery(bench, run.id, tries=1, state="pending")
    assert found.last_error == "ValueError: nobody answers at ******** in north"


async def test_a_notifier_that_blocks_holds_up_no_run(bench: Bench) -> None:
    """A stranger's code that never lets go of its loop: runs go on, and the worker ends."""
    free, holds = threading.Event(), threading.Event()

    async def deliver(_message: Notification, _settings: Mapping[str, Any]) -> None:
        holds.set()
        free.wait(30)

    bench.offer(work)
    job = await bench.client.jobs.create("job", {"type": "work", "notifiers": [{"type": "pager"}]})
    await bench.client.jobs.trigger(job.id)
    try:
        senders: Mapping[str, MakeSender] = {"pager": lambda: PackageSender(deliver, {})}
        async with bench.working(work, parts={"senders": senders}):
            assert await asyncio.to_thread(holds.wait, 20)
            for _ in range(3):
                assert (await bench.ended(await bench.trigger(work))).status is Status.COMPLETED
            begun = time.monotonic()
        assert time.monotonic() - begun < AT_ONCE
    finally:
        free.set()
