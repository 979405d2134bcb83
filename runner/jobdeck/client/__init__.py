"""What both front ends, the engine's `ctx.enqueue` and programs of one's own use: one client over the store."""

from jobdeck.client.client import Client

__all__ = ["Client"]
