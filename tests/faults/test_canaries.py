"""Values of secrets, looked for everywhere after runs that have told them in every way there is."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus
from uuid import UUID

from sqlalchemy import text

from jobdeck.cli.main import run
from jobdeck.ids import show_id
from tests.acceptance.deck import command_line
from tests.faults.case import Case
from tests.faults.invariants import Breach
from tests.handlers.api import Api, Asked, Reply, serving

MASK = "********"
# Of each secret two parts that stand nowhere else, around what has to be escaped somewhere.
PARTS = {
    "PLAIN": ("q7Rk2mZx9vTb", "Wd4nHs8pLc3f"),
    "SECRET": ("m3Yt6bQw1zKe", "Gj5uXr9aVo2s"),
    "SHELL": ("c8Fp4dNh7yIq", "Tl1kBz6wMx3e"),
    "PAYLOAD": ("v2Su5gJo8rEa", "Pn9hCf3tUy7i"),
}
VALUES = {name: f"{first}\"'\\/+ é&={second}" for name, (first, second) in PARTS.items()}
# What may stand in a header or a URL.
PARTS |= {"HEADER": ("x4Dk7sLw2bGm", "Rz6vQp1cJt9n"), "QUERY": ("a5Hy8fUe3oXi", "Kb2mTd7gNw4r")}
VALUES |= {name: "".join(PARTS[name]) for name in ("HEADER", "QUERY")}


async def test_s05_canaries(case: Case) -> None:
    """Secrets in params, headers, URLs, logs, errors, results, children: nothing of them is stored, logged or shown."""
    with serving() as api:
        api.routes = {"/echo": echo, "/refuse": lambda asked: Reply(echo(asked).body, 401)}
        settings = configuration(case, api)
        worker = case.workers.start(settings=settings)
        async with case.client(settings) as client:
            ids = [
                await client.runs.enqueue(job_type, params, max_attempts=1) for job_type, params in runs(api)
            ]
            case.ledger.enqueued({f"canary-{number}": run_id for number, run_id in enumerate(ids)})
            await case.settled()
            stored = [await client.runs.show(run_id) for run_id in ids]
            # While they are at work, for SQLite's write-ahead log ends with the last of them.
            places = database(case)
        worker.terminate()
        assert worker.wait() == 0
        places["log"] = worker.said()
        places |= await asyncio.to_thread(shown, case, settings, ids)
    reached(api)
    failed = [f"{run.job_type}: {run.error}" for run in stored if run.status not in ("completed", "failed")]
    assert failed == []
    assert all(
        f"secret://{name}" in places["rows"] for name in ("SECRET", "PLAIN", "SHELL", "HEADER", "PAYLOAD")
    )
    assert places["rows"].count(MASK) > 20
    found = sorted({(place, name, form) for place, said in places.items() for name, form in hits(said)})
    more = [Breach("S05", name, f"{form!r} in {place}") for place, name, form in found]
    case.judge(more=more, faults=len(VALUES), note=f"{len(ids)} runs; looked at {', '.join(sorted(places))}")


def configuration(case: Case, api: Api) -> dict[str, Any]:
    """A worker that finds half of the secrets by a grant and half as its team's own, and opens loopback."""
    values = VALUES | {"HOOK": api.url(f"/echo?sig={VALUES['QUERY']}")}
    shared, own = list(values.items())[:3], list(values.items())[3:]
    file = case.folder / "secrets.toml"
    lines = [f"{name} = {json.dumps(value)}" for name, value in shared]
    lines += ["[team.default]", *(f"{name} = {json.dumps(value)}" for name, value in own)]
    file.write_text("\n".join(lines))
    file.chmod(0o600)
    return {
        "handlers": ["tests.faults.canary_handlers"],
        "command": {"enabled": True},
        "http": {"allow": ["127.0.0.1/32"]},
        "secrets": {"file": str(file), "teams": {name: ["default"] for name, _ in shared}},
    }


def runs(api: Api) -> Iterator[tuple[str, dict[str, Any]]]:
    """Job types with params, each with references in another place."""
    both = {"secret": "secret://SECRET", "plain": "secret://PLAIN"}
    for job_type in ("spills", "crashes", "spills_apart", "crashes_apart"):
        yield job_type, both
    headers = {"Authorization": "Bearer secret://HEADER", "X-Own": "secret://HEADER"}
    payload = {"note": "secret://PAYLOAD"}
    yield "http", {"url": "secret://HOOK", "headers": headers, "payload": payload}
    yield "http", {"url": api.url("/refuse"), "headers": headers, "payload": payload}
    yield "command", {"shell": SHELL, "env": {"CANARY": "secret://SHELL"}}
    yield "command", {"argv": ["sh", "-c", "cat; cat >&2; exit 3"], "stdin": "secret://PAYLOAD"}


SHELL = f"""
echo "plain $CANARY"; echo "err $CANARY" >&2
{sys.executable} - <<'END'
import base64, json, os, urllib.parse
value = os.environ["CANARY"]
print(base64.b64encode(b"user:" + value.encode()).decode(), urllib.parse.quote(value, safe=""), json.dumps(value))
print("x" * 8170 + value)
print(value[:20])
print(value[20:])
print(f"::progress 1/2 {{value}}")
print(dict(os.environ))
END
echo "last words $CANARY" >&2; exit 7
"""


def echo(asked: Asked) -> Reply:
    """Everything that was asked, as a careless server would answer, in JSON and in base64."""
    body = {"headers": asked.headers, "query": asked.query, "body": asked.body.decode()}
    return Reply(body | {"again": base64.b64encode(json.dumps(body).encode()).decode()})


def reached(api: Api) -> None:
    """The values have been where they belong."""
    for asked in api.asked:
        assert asked.headers["Authorization"] == f"Bearer {VALUES['HEADER']}"
        assert json.loads(asked.body) == {"note": VALUES["PAYLOAD"]}
    assert VALUES["QUERY"] in {asked.query.get("sig") for asked in api.asked}
    assert len(api.asked) == 2


def database(case: Case) -> dict[str, str]:
    """All rows as text; of SQLite the bytes of the file and of its write-ahead log too."""
    with case.connection() as conn:
        names = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        if case.kind == "sqlite":
            names = "SELECT name FROM sqlite_master WHERE type = 'table'"
        rows = [
            str(tuple(row)) for name in conn.execute(text(names)).scalars().all()
            for row in conn.execute(text(f'SELECT * FROM "{name}"'))
        ]  # fmt: skip
    found = {"rows": "\n".join(rows)}
    if case.kind == "sqlite":
        files = [case.file, Path(f"{case.file}-wal")]
        found |= {path.name: path.read_bytes().decode("utf-8", "replace") for path in files if path.exists()}
    return found


def shown(case: Case, settings: dict[str, Any], ids: list[UUID]) -> dict[str, str]:
    """What the command line says of the runs and of the secrets."""
    config = str(case.workers.config(settings))
    lines = [
        ["runs", "list"],
        ["runs", "list", "--json"],
        ["types", "list", "--json"],
        ["doctor"],
        ["secrets", "list"],
    ]
    for run_id in ids:
        shown_id = show_id("run", run_id)
        lines += [["runs", "show", shown_id], ["runs", "show", shown_id, "--json"]]
        lines += [["runs", "logs", shown_id], ["runs", "logs", shown_id, "--json"]]
    said = [_said([*line, "--config", config]) for line in lines]
    assert "secret://HEADER" in "".join(said)
    return {"command line": "\n".join(said)}


def _said(arguments: list[str]) -> str:
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        run(command_line(), arguments)
    return out.getvalue() + err.getvalue()


def hits(said: str) -> Iterator[tuple[str, str]]:
    """What of the values stands in a text: either part in clear, or any encoding of the whole."""
    for name, value in VALUES.items():
        data = value.encode()
        forms = {
            *PARTS[name],
            base64.b64encode(data).decode().rstrip("="),
            base64.urlsafe_b64encode(data).decode().rstrip("="),
            *(base64.b64encode(b"\0" * lead + data).decode()[4:-4] for lead in (1, 2)),
            quote(value, safe=""),
            quote(value),
            quote_plus(value),
            json.dumps(value)[1:-1],
        }
        yield from ((name, _around(said, form)) for form in sorted(forms) if form in said)


def _around(said: str, form: str) -> str:
    """What stands there, with enough before it to see where it comes from."""
    at = said.index(form)
    return said[max(0, at - 160) : at + len(form) + 20]


def test_a_canary_would_be_seen() -> None:
    """The search finds what it looks for, in each form."""
    value = VALUES["SECRET"]
    forms = [
        value,
        base64.b64encode(value.encode()).decode(),
        quote(value, safe=""),
        json.dumps(value),
        PARTS["SECRET"][1],
    ]
    forms.append(base64.b64encode(f"us:{value}".encode()).decode())
    assert [name for form in forms for name, _ in list(hits(f"<{form}>"))[:1]] == ["SECRET"] * len(forms)
    assert list(hits(MASK)) == []
