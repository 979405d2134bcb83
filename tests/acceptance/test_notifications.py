"""Notifications by the command line: asked for, sent by a worker, looked at, sent again."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from standardwebhooks.webhooks import Webhook

from tests.acceptance.deck import Deck
from tests.engine.post import Mailbox, mailing
from tests.faults.receiver import Receiver, receiving


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Takes what comes."""
    with receiving() as made:
        yield made


@pytest.fixture
def box() -> Iterator[Mailbox]:
    """Takes mail."""
    with mailing() as made:
        yield made


def test_how_runs_ended(deck: Deck, receiver: Receiver, box: Mailbox) -> None:
    """A callback and mail of a run, a webhook and mail of a job in a file, a batch: each where it belongs."""
    deck.settings |= {
        "JOBDECK_SMTP__HOST": "127.0.0.1",
        "JOBDECK_SMTP__PORT": str(box.port),
        "JOBDECK_SMTP__STARTTLS": "false",
        "JOBDECK_SMTP__SENDER": "deck@example.com",
        "JOBDECK_SMTP__TO": "all@example.com",
    }
    secret = deck.json("webhooks", "rotate")["secret"]
    (deck.folder / "jobs.toml").write_text(
        f'[jobs.nightly]\ntype = "noop"\nwebhook_url = "{receiver.url}"\n'
        '[[jobs.nightly.notifiers]]\ntype = "email"\nto = ["ops@example.com"]\n'
    )
    assert deck.run("jobs", "apply", "jobs.toml").returncode == 0
    job_secret = deck.run("webhooks", "rotate", "--job", "nightly").stdout.strip()
    exported = deck.run("jobs", "export").stdout
    assert receiver.url in exported
    assert "whsec" not in exported + deck.run("webhooks", "list").stdout
    (deck.folder / "again.toml").write_text(exported)
    assert {step["action"] for step in deck.json("jobs", "apply", "again.toml")["steps"]} == {"keep"}
    run = deck.json("trigger", "noop", "--callback-url", receiver.url, "--notify")
    assert (run["callback_url"], run["notify"]) == (receiver.url, True)
    assert deck.json("trigger", "noop", "--callback-url", receiver.url, "--dry-run")["dry_run"] is True
    deck.json("trigger", "--job", "nightly")
    line = json.dumps({"type": "noop", "callback_url": receiver.url})
    assert deck.json("trigger", "--batch", "-", stdin=line)["created"] == 1
    assert deck.worker("--drain").wait(60) == 0, deck.log_of(0)
    assert {each["state"] for each in deck.json("deliveries", "list")} == {"delivered"}
    mine = deck.json("deliveries", "list", "--run", run["id"])
    assert sorted((each["channel"], each["endpoint"]) for each in mine) == [
        ("callback", receiver.url),
        ("email", "team"),
    ]
    assert sorted(box.to) == [["all@example.com"], ["ops@example.com"]]
    assert len(receiver.received) == 3
    for got in receiver.received:
        said = json.loads(got.body)["data"]
        Webhook(job_secret if said["job"] == "nightly" else secret).verify(got.body, got.headers)


def test_a_delivery_that_failed(deck: Deck, receiver: Receiver) -> None:
    """Seen in the list, switched off by 410, switched on again, and sent again under the id it had."""
    receiver.answer = lambda _: 410
    deck.json("trigger", "noop", "--callback-url", f"{receiver.url}?key=k-51d0")
    assert deck.worker("--drain").wait(60) == 0, deck.log_of(0)
    (failed,) = deck.json("deliveries", "list", "--state", "disabled")
    assert (failed["response_code"], failed["tries"]) == (410, 1)
    refused = deck.run("deliveries", "resend", failed["id"])
    (gone,) = deck.json("webhooks", "list")["disabled"]
    listed = deck.run("webhooks", "list").stdout + deck.run("deliveries", "list").stdout
    assert (receiver.url in listed, "k-51d0" in listed) == (True, False)
    assert (refused.returncode, f"jobdeck webhooks enable {gone['id']}" in refused.stderr) == (4, True)
    assert deck.run("webhooks", "enable", gone["id"]).returncode == 0
    assert deck.run("webhooks", "enable", gone["id"]).returncode == 3
    assert deck.run("deliveries", "resend", failed["id"][-6:]).returncode == 0
    receiver.answer = lambda _: 200
    assert deck.worker("--drain").wait(60) == 0, deck.log_of(1)
    shown = deck.json("deliveries", "show", failed["id"])
    assert (shown["state"], shown["tries"]) == ("delivered", 2)
    first, second = receiver.received
    assert (first.message_id, first.body) == (second.message_id, second.body)
    assert (second.message_id, second.body.decode()) == (failed["id"], shown["body"])
    assert "delivered" in deck.run("deliveries", "list").stdout


def test_what_is_refused(deck: Deck) -> None:
    """Exit codes and one line each; nothing is stored."""
    deck.json("jobs", "create", "hello", "--type", "noop")
    bad_list = 'notifiers=[{type="email", to=["nobody"]}]'
    for code, says, arguments in (
        (
            2,
            "callback_url: the URL does not start",
            ("trigger", "noop", "--callback-url", "ftp://example.com/"),
        ),
        (2, "callback_url: the URL uses http", ("trigger", "noop", "--callback-url", "http://10.0.0.1/")),
        (
            2,
            "webhook_url: the URL uses http",
            ("jobs", "update", "hello", "--set", "webhook_url=http://10.0.0.1/"),
        ),
        (2, "no e-mail address", ("jobs", "update", "hello", "--set", bad_list)),
        (2, "choose from pending", ("deliveries", "list", "--state", "lost")),
        (3, "no run", ("deliveries", "list", "--run", "run_zzzzzz")),
        (3, "no delivery", ("deliveries", "show", "msg_00000000000000000000000000")),
        (3, "no delivery", ("deliveries", "resend", "zzzzzz")),
        (3, "no job", ("webhooks", "rotate", "--job", "other")),
        (3, "no disabled endpoint", ("webhooks", "enable", "hook_00000000000000000000000000")),
    ):
        done = deck.run(*arguments)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (code, "", 1), (arguments, done)
        assert says in done.stderr, (arguments, done.stderr)
    weak = deck.run("webhooks", "rotate", "--stdin", stdin="whsec_c2hvcnQ=\n")
    assert (weak.returncode, "whsec_c2hvcnQ=" in weak.stderr) == (2, False)
    assert deck.json("runs", "list")["runs"] == []
