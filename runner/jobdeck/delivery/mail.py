"""E-mail: one plain text message for one notification, by the SMTP server of the configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any, Final

import aiosmtplib

from jobdeck import limits
from jobdeck.clock import Clock, SystemClock, from_us
from jobdeck.delivery.sender import Letter, Sent, Unsent
from jobdeck.notifiers import TEAM
from jobdeck.text import clean

_TLS_FROM_THE_START: Final = 465
_SUBJECT_CHARS: Final = 200
_ERROR_LINES: Final = 20
_WORDS_CHARS: Final = 300


@dataclass(frozen=True, slots=True)
class MailServer:
    """Where mail is handed in, and whose it is."""

    host: str
    port: int
    sender: str
    """Address that it is from."""
    starttls: bool = True
    """Refuse to go on in clear. Port 465 has TLS from the first byte instead."""
    username: str = ""
    password: str = field(default="", repr=False)
    to: tuple[str, ...] = ()
    """Who gets the mail of runs with `notify` whose job and team name nobody."""
    teams: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The same by team."""


class MailSender:
    """Hands mail in. A server that takes it has it: what becomes of it later comes back to the sender's address."""

    def __init__(self, server: MailServer, clock: Clock | None = None) -> None:
        self._server = server
        self._clock = clock or SystemClock()

    async def send(self, letter: Letter) -> Sent:
        message = self._message(letter)
        server = self._server
        implicit = server.port == _TLS_FROM_THE_START
        try:
            refused, _ = await aiosmtplib.send(
                message,
                hostname=server.host,
                port=server.port,
                username=server.username or None,
                password=server.password or None,
                use_tls=implicit,
                start_tls=server.starttls and not implicit,
                timeout=limits.DELIVERY_DEADLINE,
            )
        except aiosmtplib.SMTPRecipientsRefused as error:
            codes = [each.code for each in error.recipients]
            raise _unsent(
                "no address was taken", max(codes), again=any(code < 500 for code in codes)
            ) from error
        except aiosmtplib.SMTPAuthenticationError as error:
            # Of the configuration, which somebody may mend; not of this message.
            raise _unsent(error.message, error.code, again=True) from error
        except aiosmtplib.SMTPResponseException as error:
            raise _unsent(error.message, error.code, again=error.code < 500) from error
        except (aiosmtplib.SMTPException, OSError) as error:
            raise Unsent(clean(f"{type(error).__name__}: {error}", _WORDS_CHARS)) from error
        return _sent(refused)

    async def aclose(self) -> None:
        return None

    def _message(self, letter: Letter) -> EmailMessage:
        told = json.loads(letter.body)
        data = told["data"]
        message = EmailMessage()
        message["From"] = self._server.sender
        message["To"] = ", ".join(self._recipients(letter.endpoint, str(data["team"])))
        message["Subject"] = _subject(data)
        message["Date"] = format_datetime(from_us(self._clock.wall_us()))
        message["Message-ID"] = f"<{letter.message_id}@{self._server.sender.rpartition('@')[2]}>"
        # So that no out-of-office answers come back (RFC 3834).
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(_text(data))
        return message

    def _recipients(self, endpoint: str, team: str) -> Sequence[str]:
        if endpoint != TEAM:
            return endpoint.split(", ")
        found = self._server.teams.get(team) or self._server.to
        if not found:
            raise Unsent(f"nobody is named for the team {team}; set to or teams under [smtp]", again=False)
        return found


def _sent(refused: Mapping[str, aiosmtplib.SMTPResponse]) -> Sent:
    """It has been taken for somebody. Raises Unsent where somebody else may get it by another try.

    That try goes to all who have been refused, for good too: so its end still says who never got it.
    """
    if not refused:
        return Sent(250)
    names = ", ".join(refused)
    later = [answer.code for answer in refused.values() if answer.code < 500]
    if later:
        raise Unsent(
            clean(f"not taken yet for {names}; the others have it", _WORDS_CHARS), code=max(later), left=names
        )
    return Sent(250, f"not taken for {names}")


def _unsent(words: str, code: int, *, again: bool) -> Unsent:
    return Unsent(clean(words, _WORDS_CHARS), code=code, again=again)


def _subject(data: Mapping[str, Any]) -> str:
    # `clean` leaves no line break, which would be another header.
    return clean(f"[{data['team']}] {data['job'] or data['job_type']}: {data['status']}", _SUBJECT_CHARS)


def _text(data: Mapping[str, Any]) -> str:
    facts = (
        ("Run", data["run_id"]),
        ("Status", data["status"]),
        ("Reason", data["failure_kind"]),
        ("Job", data["job"]),
        ("Type", data["job_type"]),
        ("Project", data["project"]),
        ("Attempt", data["attempt"]),
        ("Started", data["started_at"]),
        ("Ended", data["finished_at"]),
        ("Triggered by", data["triggered_by"]),
    )
    lines = [f"{name + ':':<14}{clean(str(value))}" for name, value in facts if value is not None]
    if data["error"]:
        lines += ["", *clean(data["error"], lines=True).splitlines()[:_ERROR_LINES]]
    lines += ["", f"jobdeck --team {data['team']} runs show {data['run_id']}"]
    return "\n".join(lines) + "\n"
