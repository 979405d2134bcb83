"""What an approval stands for. Pure."""

from __future__ import annotations

import hashlib


def request_hash(job_type: str, job_version: int | None, params: str) -> str:
    """A digest of what a run would do; `params` as they are stored. Approved is this, and nothing else may run."""
    request = f"{job_type}\n{'' if job_version is None else job_version}\n{params}"
    return hashlib.sha256(request.encode("utf-8", "surrogatepass")).hexdigest()
