"""Mail to a real server: what it takes, what it refuses for good and what for now, and headers nobody can add to."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jobdeck.delivery import Letter, Unsent
from jobdeck.delivery.mail import MailSender
from tests.engine.post import mailing

TO = ("ops@example.com", "ann@example.com")


def letter(endpoint: str = ", ".join(TO), **data: Any) -> Letter:
    """What is told of a failed run, unless the test says otherwise."""
    facts = {
        "run_id": "run_1", "job": "nightly", "job_type": "sync", "team": "acme", "project": None, "status": "failed",
        "failure_kind": "error", "attempt": 1, "error": "no", "started_at": None, "finished_at": "t",
        "triggered_by": "manual:ann",
    }  # fmt: skip
    body = {"type": "run.failed", "timestamp": "2026-01-01T00:00:00Z", "data": facts | data}
    return Letter("msg_1", endpoint, json.dumps(body))


async def test_the_same_message_at_every_try() -> None:
    """Its id is that of the notification, so that mailboxes can tell a repetition."""
    with mailing() as box:
        sender = MailSender(box.server())
        for _ in range(2):
            assert (await sender.send(letter())).code == 250
    first, second = box.messages
    assert first["Message-ID"] == second["Message-ID"] == "<msg_1@example.com>"
    assert first.get_content() == second.get_content()
    assert box.to == [list(TO), list(TO)]


@pytest.mark.parametrize(
    "evil", ["x\r\nBcc: eve@example.com", "x\nBcc: eve@example.com\n\nhello", "\x00x", "ü" * 400]
)
async def test_no_header_can_be_added(evil: str) -> None:
    """Whatever stands in a name: the message has the headers it should have, and goes to whom it should."""
    with mailing() as box:
        await MailSender(box.server()).send(letter(job=evil, error=evil, triggered_by=evil, team=evil))
    (message,) = box.messages
    assert sorted(set(message.keys()) & {"From", "To", "Bcc", "Subject", "Message-ID"}) == [
        "From", "Message-ID", "Subject", "To",
    ]  # fmt: skip
    assert box.to == [list(TO)]
    assert "\n" not in message["Subject"]


@pytest.mark.parametrize(
    ("where", "answer", "again"),
    [
        (TO, "550 no such box", False),
        (TO, "451 later", True),
        (("DATA",), "554 spam", False),
        (("DATA",), "452 full", True),
    ],
)
async def test_what_a_server_refuses(where: tuple[str, ...], answer: str, again: bool) -> None:
    """5xx is for good, 4xx for now; what it said is kept."""
    with mailing() as box:
        box.answers |= dict.fromkeys(where, answer)
        with pytest.raises(Unsent) as refused:
            await MailSender(box.server()).send(letter())
    assert (refused.value.code, refused.value.again) == (int(answer[:3]), again)
    assert box.messages == []


async def test_who_is_refused_keeps_nobody_else_from_it() -> None:
    """It has been sent, and says to whom it has not."""
    with mailing() as box:
        box.answers[TO[0]] = "550 no such box"
        sent = await MailSender(box.server()).send(letter())
    assert sent.note == "not taken for ops@example.com"
    assert box.to == [[TO[1]]]


@pytest.mark.parametrize("other", [None, "550 no such box"])
async def test_who_is_refused_for_now_is_asked_again(other: str | None) -> None:
    """Another try goes to those who have not got it, and to nobody twice."""
    third = "eve@example.com"
    with mailing() as box:
        box.answers[TO[0]] = "450 later"
        if other is not None:
            box.answers[third] = other
        with pytest.raises(Unsent) as refused:
            await MailSender(box.server()).send(letter(", ".join((*TO, third))))
        got = [address for address in (*TO, third) if address not in box.answers]
        assert box.to == [got]
        assert (refused.value.code, refused.value.again) == (450, True)
        assert refused.value.left == ", ".join(box.answers)
        del box.answers[TO[0]]
        sent = await MailSender(box.server()).send(letter(refused.value.left or ""))
        assert box.to == [got, [TO[0]]]
    assert sent.note == (None if other is None else f"not taken for {third}")


async def test_a_server_that_does_not_encrypt_is_refused() -> None:
    """By default nothing is said in clear, the password least of all."""
    with mailing() as box, pytest.raises(Unsent) as refused:
        await MailSender(box.server(starttls=True, username="ann", password="pw")).send(letter())
    assert refused.value.again
    assert box.messages == []


async def test_a_server_that_is_not_there() -> None:
    """Is tried again."""
    with mailing() as box:
        server = box.server()
    with pytest.raises(Unsent) as refused:
        await MailSender(server).send(letter())
    assert refused.value.again


async def test_whose_mail_it_is() -> None:
    """The addresses of the team, else those for all teams, else nobody: that is said, and not tried again."""
    with mailing() as box:
        sender = MailSender(box.server(to=("all@example.com",), teams={"acme": ["acme@example.com"]}))
        await sender.send(letter("team"))
        await sender.send(letter("team", team="other"))
        assert box.to == [["acme@example.com"], ["all@example.com"]]
        with pytest.raises(Unsent, match="nobody is named for the team acme") as refused:
            await MailSender(box.server()).send(letter("team"))
    assert not refused.value.again
