"""How notifications are sent: webhooks, e-mail, and what other packages bring."""

from jobdeck.delivery.sender import Letter, MakeSender, Sender, Sent, Unsent, said_of

__all__ = ["Letter", "MakeSender", "Sender", "Sent", "Unsent", "said_of"]
