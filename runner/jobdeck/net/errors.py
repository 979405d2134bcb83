"""What can go wrong with an outbound request.

HttpError                    1   base: catch this to catch all of them
├── InvalidUrl               2   the URL breaks a rule; nothing was sent (also a ValidationError)
├── InvalidRequest           2   method, header or body breaks a rule; nothing was sent (ditto)
├── BlockedAddress           2   the target is not public and not in the allow-list (ditto)
├── ConnectFailed            1   name not found, refused, unreachable, TLS failed
├── DeadlineExceeded         1   the whole exchange did not end in time
├── HostBusy                 1   the host has as many requests of this worker as it may, or asked for a pause
├── BadResponse              1   closed early, not HTTP, endless headers, not the JSON it should be
└── ResponseTooLarge         1   more body than `max_bytes`

Messages name the scheme, host and port and never path, query or headers, which may hold secrets.
"""

from __future__ import annotations

from jobdeck.errors import JobdeckError, ValidationError


class HttpError(JobdeckError):
    """The outbound request failed."""

    code = "http_failed"


class InvalidUrl(ValidationError, HttpError):
    """The URL is not one that may be requested."""

    code = "invalid_url"


class InvalidRequest(ValidationError, HttpError):
    """The method, a header or the body is not one that may be sent."""

    code = "invalid_request"


class BlockedAddress(ValidationError, HttpError):
    """The target address is not public and the server's configuration does not open it."""

    code = "blocked_address"


class ConnectFailed(HttpError):
    """No connection to the target could be made."""

    code = "connect_failed"


class DeadlineExceeded(HttpError):
    """The exchange did not end within its deadline."""

    code = "deadline_exceeded"


class HostBusy(HttpError):
    """Nothing was sent: the host has its share of requests already, or has asked to be left alone for a while.

    `retry_after` is how many seconds it asked for; None where only its places are taken.
    """

    code = "host_busy"

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class BadResponse(HttpError):
    """The answer is not one that can be used."""

    code = "bad_response"


class ResponseTooLarge(HttpError):
    """The body is larger than the caller accepts."""

    code = "response_too_large"
