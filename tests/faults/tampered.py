"""What somebody with the database's password may put into a row of a run that waits, and what must become of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, text

from jobdeck.states import Status
from tests.faults.case import Case

CANARY: Final = "jobdeck-was-here"
"""The file that the payloads below would make, were one of them ever carried out."""
_PICKLE: Final = f"cposix\nsystem\n(S''touch {CANARY}''\ntR."
_IMPORT: Final = f"""__import__("os").system("touch {CANARY}")"""
INVALID: Final = ((Status.FAILED, "invalid_params"),)
SHUT_OUT: Final = ((Status.CANCELLED, "rejected"),)
GIVEN_UP: Final = ((Status.FAILED, "rejected"),)
DONE: Final = ((Status.COMPLETED, None),)
DONE_OR_SHUT_OUT: Final = DONE + SHUT_OUT
WAITS: Final = ((Status.PENDING, None),)
DEAD: Final = ((Status.DEAD, "error"),)


class Tampered(NamedTuple):
    """A change of one row, as SQL, and how that run may stand in the end: status, and kind of failure where it counts.

    What is out of range and harmless by itself is done, or shut out together with what is not.
    """

    change: str
    ends: tuple[tuple[str, str | None], ...]
    job_type: str = "work"


_JSON: Final = {
    "half an object": Tampered("params = '{'", INVALID),
    "a pickle": Tampered(f"params = '{_PICKLE}'", INVALID),
    "a list": Tampered("params = '[1]'", INVALID),
    "100,000 levels": Tampered(f"params = '{'[' * 100_000}'", INVALID),
    "5,000 digits": Tampered(f"""params = '{{"seconds": {"9" * 5_000}}}'""", INVALID),
    "a class to make": Tampered("""params = '{"py/object": "os.system", "seconds": 1}'""", INVALID),
    "a class beside params": Tampered("""params = '{"py/object": "os.system", "key": "S13"}'""", DONE),
    "backoff": Tampered("backoff = '{'", DEAD, "breaks"),
    "a growth that is a path": Tampered(
        """backoff = '{"growth":"os.system","base":1,"factor":1,"cap":1,"delays":[],"jitter":null}'""",
        DEAD,
        "breaks",
    ),
    "backoff as a list": Tampered("backoff = '[]'", DEAD, "breaks"),
    "overrides": Tampered("overrides = '['", DONE),
    "tags": Tampered("tags = '['", DONE),
    "metadata": Tampered("metadata = '{'", DONE),
    "params under an approval": Tampered("requires_approval = true, params = '{'", GIVEN_UP),
}
_NUMBERS: Final = {
    "attempts below zero": Tampered("attempt = -5", DONE_OR_SHUT_OUT),
    "a fence below zero": Tampered("fence = -7", DONE_OR_SHUT_OUT),
    "failures below zero": Tampered("failures = -100000", DEAD + SHUT_OUT, "breaks"),
    "crashes below zero": Tampered("crash_count = -5", DONE_OR_SHUT_OUT),
    "a huge fence": Tampered("fence = 2147483647", DONE_OR_SHUT_OUT),
    "a huge attempt": Tampered("attempt = 2147483647", DONE_OR_SHUT_OUT),
    "a huge revision": Tampered("revision = 2147483647", DONE_OR_SHUT_OUT),
    "huge failures": Tampered("failures = 2147483647", GIVEN_UP + SHUT_OUT + DEAD, "breaks"),
    "no attempts": Tampered("max_attempts = -1", DONE_OR_SHUT_OUT),
    "a priority of its own": Tampered("priority = -1", DONE_OR_SHUT_OUT),
    "an endless timeout": Tampered("timeout_s = 1e308", DONE),
    "a timeout below zero": Tampered("timeout_s = -1", DONE),
    "a log of 2^63 bytes": Tampered("log_bytes = 9223372036854775807", DONE),
    "due before all times": Tampered("due_at = -9223372036854775807", DONE),
    "made after all times": Tampered("created_at = 9223372036854775807", DONE),
    "begun after all times, and told of": Tampered(
        "announces = true, notify = true, started_at = 9223372036854775807", DONE
    ),
    "a gate there is none of": Tampered("gate = 2147483647", WAITS + SHUT_OUT),
    "a depth of 32,767": Tampered("lineage_depth = 32767", DONE),
    "a version there is none of": Tampered("job_id = id, job_version = 99999, overrides = '{'", DONE),
}
_WORDS: Final = {
    "an unknown status": Tampered("status = 'exploded'", (("exploded", None),)),
    "a path as its type": Tampered("job_type = 'os.system'", WAITS),
    "a path as its queue": Tampered("queue = '../../etc'", DONE),
    "a call as who asked": Tampered(f"trigger_type = '{_IMPORT}', triggered_by = '{_IMPORT}'", DONE),
    "a kind of failure": Tampered("failure_kind = 'os.system'", DONE),
}
_OF_SQLITE: Final = {
    "params as bytes": Tampered("params = x'80049503'", INVALID),
    "params that are no UTF-8": Tampered("params = CAST(x'7b22ff227d' AS TEXT)", INVALID),
    "a name that is no UTF-8": Tampered("name = CAST(x'ff' AS TEXT)", DONE),
    "a type that is no UTF-8": Tampered("job_type = CAST(x'ff' AS TEXT)", WAITS),
    "a queue that is no UTF-8": Tampered("queue = CAST(x'ff' AS TEXT)", DONE),
    "params as a number": Tampered("params = 5", INVALID),
    "a timeout in words": Tampered("timeout_s = 'soon'", GIVEN_UP),
    "an attempt in words": Tampered("attempt = 'x'", DONE_OR_SHUT_OUT),
    "a fence in words": Tampered("fence = 'x'", DONE_OR_SHUT_OUT),
    "failures in words": Tampered("failures = 'x'", GIVEN_UP + SHUT_OUT, "breaks"),
    "a log in words": Tampered("log_bytes = 'x'", GIVEN_UP),
    "a gate in words": Tampered("gate = 'x'", WAITS + SHUT_OUT),
    "waits in words": Tampered("blocked = 'x'", WAITS + SHUT_OUT),
    "begun in words, and told of": Tampered("announces = true, notify = true, started_at = 'x'", DONE),
    "made at no time": Tampered("created_at = 'x'", DONE),
    "due at some bytes": Tampered("due_at = x'00'", WAITS),
    "a fence of 2^63": Tampered("fence = 9223372036854775807", DONE_OR_SHUT_OUT),
    "a parent of one byte": Tampered("parent_run_id = x'00'", DONE),
    "a job of one byte": Tampered("job_id = x'00'", DONE),
    "backoff as a number": Tampered("backoff = 7", DEAD, "breaks"),
}


def rows_of(kind: str) -> dict[str, Tampered]:
    """All that this kind of database lets anybody write, by what it is."""
    return _JSON | _NUMBERS | _WORDS | (_OF_SQLITE if kind == "sqlite" else {})


def tamper(conn: Connection, kind: str, run_id: UUID, change: str) -> None:
    """Write past jobdeck, and past what the columns may hold."""
    if kind == "sqlite":
        conn.exec_driver_sql("PRAGMA ignore_check_constraints = ON")
    shown = f"x'{run_id.hex}'" if kind == "sqlite" else f"'{run_id}'"
    conn.exec_driver_sql(f"UPDATE runs SET {change} WHERE id = {shown}".replace("%", "%%"))


@contextmanager
def without_constraints(case: Case) -> Iterator[None]:
    """PostgreSQL holds to the constraints of `runs` again only after the block; SQLite is asked by each connection."""
    if case.kind == "sqlite":
        yield
        return
    query = "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'runs'::regclass"
    with case.connection() as conn:
        found = conn.execute(text(f"{query} AND contype = 'c'")).all()
        for name, _ in found:
            conn.execute(text(f"ALTER TABLE runs DROP CONSTRAINT {name}"))
    try:
        yield
    finally:
        with case.connection() as conn:
            for name, definition in found:
                conn.execute(text(f"ALTER TABLE runs ADD CONSTRAINT {name} {definition} NOT VALID"))
