"""Why there is no value behind a reference."""

from __future__ import annotations

from jobdeck.errors import Forbidden, NotFound


class SecretNotFound(NotFound, LookupError):
    """No source of this worker has the secret; another worker, or this one later, may have it."""

    code = "secret_not_found"


class SecretNotGranted(Forbidden, LookupError):
    """The team may not use the secret, whether it exists or not."""

    code = "secret_not_granted"


class SourceTrouble(Exception):
    """A source of secrets cannot be asked; `mend` is the command that helps, where there is one."""

    def __init__(self, reason: str, mend: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.mend = mend
