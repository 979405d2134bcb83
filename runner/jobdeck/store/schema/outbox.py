"""Notifications on their way out, and what webhooks need: their secrets, and the endpoints that want no more."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, Table, Text, text

from jobdeck.store.columns import Id, Json
from jobdeck.store.schema.base import metadata, number, only

# The id is a digest of run, fence, event, channel and endpoint: one of a kind is made once. Receivers see it.
outbox = Table(
    "outbox",
    metadata,
    Column("id", Id, primary_key=True),
    Column("team_id", Id, nullable=False),
    Column("run_id", Id, nullable=False),
    Column("fence", Integer, nullable=False),
    Column("event", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("receiver", Text, nullable=False),
    Column("owner_id", Id, nullable=False),
    Column("state", Text, nullable=False),
    number("tries"),
    Column("tries_max", Integer, nullable=False),
    Column("next_at", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("delivered_at", BigInteger),
    Column("response_code", Integer),
    Column("last_error", Text),
    Column("endpoint", Text, nullable=False),
    Column("body", Json, nullable=False),
    Index(None, "run_id"),
    Index("ix_outbox_list", "team_id", "created_at", "id"),
)
# What is to be sent: `next_at` is also when a sender that fell silent loses what it had taken.
DUE = text("state IN ('pending', 'sending')")
Index("ix_outbox_due", outbox.c.channel, outbox.c.next_at, outbox.c.receiver, outbox.c.id, **only(DUE))

# Of a job, or of a team for the callbacks of its runs. Apart from versions: nothing shows or exports them.
webhook_secrets = Table(
    "webhook_secrets",
    metadata,
    Column("owner_id", Id, primary_key=True),
    Column("team_id", Id, nullable=False),
    Column("secret", Text, nullable=False),
    Column("previous", Text),
    Column("previous_until", BigInteger),
    Column("created_at", BigInteger, nullable=False),
    Column("created_by", Text, nullable=False),
    Index(None, "team_id"),
)

# The id is a digest of owner and URL.
disabled_webhooks = Table(
    "disabled_webhooks",
    metadata,
    Column("id", Id, primary_key=True),
    Column("team_id", Id, nullable=False),
    Column("owner_id", Id, nullable=False),
    Column("url", Text, nullable=False),
    Column("disabled_at", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Index(None, "team_id"),
)
