"""`llm_batch` where nothing goes wrong: what is sent for each row, and what is stored of the answer."""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jobdeck import GuardedClient, ValidationError
from jobdeck_handlers.llm_batch import llm_batch
from jobdeck_handlers.llm_batch.template import columns_of, fill
from tests.handlers.api import Api, Reply
from tests.handlers.chat import Chat, ask, completion, counts, items
from tests.handlers.conftest import MakeContext
from tests.handlers.context import OTHER_RUN, RUN, THIRD_RUN, RecordingContext
from tests.handlers.databases import Database


@pytest.fixture
def chat(api: Api) -> Chat:
    return Chat(api)


async def test_every_row_gets_its_answer(
    chat: Chat, api: Api, attempt: MakeContext, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One request a row with the model, the prompts, the options and the key; the answer is stored beside the key."""
    monkeypatch.setenv("JOBDECK_SECRET_LLM", "sk-very-secret")
    items(database, 3)
    ctx = attempt()
    options = {"temperature": 0.2, "max_tokens": 50}
    texts = {"system": 'Say {"yes"} or {no}.', "prompt": "{id}: {{{body}}}"}
    result = await ask(ctx, api, api_key="secret://LLM", concurrency=1, **texts, **options)
    assert chat.prompts == [f"{n}: {{text {n}}}" for n in (1, 2, 3)]
    assert chat.bodies[0] == {
        "model": "m",
        "messages": [
            {"role": "system", "content": 'Say {"yes"} or {no}.'},
            {"role": "user", "content": chat.prompts[0]},
        ],
        **options,
    }
    assert {each.headers["Authorization"] for each in api.asked} == {"Bearer sk-very-secret"}
    assert (counts(result), result["rows"], result["table"]) == ((3, 0, 0), 3, "answers")
    rows = database.rows("SELECT * FROM answers ORDER BY id")
    assert [row["answer"] for row in rows] == [f"re: {n}: {{text {n}}}" for n in (1, 2, 3)]
    kept = (
        "id",
        "finish_reason",
        "prompt_tokens",
        "completion_tokens",
        "total_tokens",
        "error",
        "model",
        "run_id",
    )
    assert [rows[0][each] for each in kept] == [1, "stop", 7, 3, 10, None, "m-2026", str(RUN)]
    assert abs(_time(rows[0]["finished_at"]) - datetime.now(UTC)) < timedelta(minutes=1)
    assert "sk-very-secret" not in f"{rows}{ctx.log.entries}{ctx.progresses}{result}"


def _time(value: Any) -> datetime:
    found = datetime.fromisoformat(value) if isinstance(value, str) else value
    assert isinstance(found, datetime)
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found


async def test_tokens_are_those_that_the_endpoint_counts(
    chat: Chat, api: Api, attempt: MakeContext, database: Database
) -> None:
    """What the endpoint does not say, or says as no count, is unknown in the table and adds nothing to the sums."""
    items(database, 4)
    chat.plans["text 2"] = _once(usage=None)
    chat.plans["text 3"] = _once(usage={"prompt_tokens": 5, "completion_tokens": -1, "total_tokens": "12"})
    ctx = attempt()
    result = await ask(ctx, api)
    assert (result["prompt_tokens"], result["completion_tokens"], result["total_tokens"]) == (19, 6, 20)
    found = database.rows("SELECT prompt_tokens, completion_tokens, total_tokens FROM answers ORDER BY id")
    assert [tuple(row.values()) for row in found] == [
        (7, 3, 10),
        (None, None, None),
        (5, None, None),
        (7, 3, 10),
    ]
    assert ctx.progresses[-1] == {
        "processed": 4,
        "total": 4,
        "failed": 0,
        "skipped": 0,
        "message": "Answered 4, 20 tokens",
    }


def _once(**answer: Any) -> deque[Reply]:
    return deque([completion("yes", **answer)])


async def test_what_is_answered_is_not_asked_again(
    chat: Chat, api: Api, attempt: MakeContext, database: Database
) -> None:
    """Another run of the same question asks only about rows that are new; the others count as skipped."""
    items(database, 5)
    await ask(attempt(), api)
    items(database, 2, start=6)
    result = await ask(attempt(run_id=OTHER_RUN), api, concurrency=2, timeout="10s", max_total_tokens=1_000)
    assert counts(result) == (2, 0, 5)
    assert sorted(chat.prompts) == [f"text {n}" for n in range(1, 8)]
    assert counts(await ask(attempt(run_id=THIRD_RUN), api)) == (0, 0, 7)
    assert len(chat.prompts) == 7


@pytest.mark.parametrize(
    "changed",
    [
        {"model": "other"},
        {"prompt": "say {body}"},
        {"system": "be brief"},
        {"temperature": 0},
        {"max_tokens": 9},
    ],
)
async def test_another_question_is_asked_of_all_rows(
    changed: dict[str, Any], chat: Chat, api: Api, attempt: MakeContext, database: Database
) -> None:
    """Another model, prompt or option makes the stored answers those of another question: they are replaced."""
    items(database, 2)
    await ask(attempt(), api)
    before = set(database.column("SELECT prompt_hash FROM answers"))
    result = await ask(attempt(run_id=OTHER_RUN), api, **changed)
    assert counts(result) == (2, 0, 0)
    assert len(chat.prompts) == 4
    after = set(database.column("SELECT prompt_hash FROM answers"))
    assert (len(before), len(after), before & after) == (1, 1, set())
    assert database.count("answers") == 2


async def test_keys_of_text(chat: Chat, api: Api, attempt: MakeContext, database: Database) -> None:
    """Rows may be known by text; NULL in a column of the prompt is empty text."""
    database.execute("CREATE TABLE items (slug VARCHAR(20) PRIMARY KEY, body TEXT, n INTEGER)")
    database.execute(
        "INSERT INTO items VALUES ('b', NULL, 2), ('a', 'x', NULL), ('B', 'y', 3), ('é', 'z', 4)"
    )
    await ask(attempt(), api, key="slug", prompt="<{body}|{n}>")
    found = database.rows("SELECT items.slug, answer FROM items JOIN answers ON answers.slug = items.slug")
    assert {row["slug"]: row["answer"] for row in found} == {
        "a": "re: <x|>",
        "b": "re: <|2>",
        "B": "re: <y|3>",
        "é": "re: <z|4>",
    }


@pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)
@pytest.mark.parametrize("output_in", ["target", "data_file"])
async def test_a_named_target_and_the_data_file(
    output_in: str, chat: Chat, api: Api, client: GuardedClient, database: Database, tmp_path: Path
) -> None:
    """Rows of a server's table with UUIDs as keys; the answers go beside them or into the project's data file."""
    uuids = [f"01890000-0000-7000-8000-00000000000{n}" for n in (1, 2, 3)]
    database.execute("CREATE TABLE items (id uuid PRIMARY KEY, body jsonb, at date)")
    for n, each in enumerate(uuids):
        database.execute(f"""INSERT INTO items VALUES ('{each}', '{{"n": {n}}}', '2026-01-3{n % 2}')""")
    file = Database(f"sqlite:///{tmp_path / 'crm.db'}")
    settings = {"targets": {"shop": database.url}, "data_file_url": file.url}
    params: dict[str, Any] = {"target": "shop", "output_in": output_in, "prompt": "{body} {at}"}
    for run_id, expected in ((RUN, (3, 0, 0)), (OTHER_RUN, (0, 0, 3))):
        result = await ask(RecordingContext(client, settings, run_id=run_id), api, **params)
        assert counts(result) == expected
    there, other = (database, file) if output_in == "target" else (file, database)
    assert "answers" not in other.tables()
    assert [str(key) for key in there.column("SELECT id FROM answers ORDER BY id")] == uuids
    assert sorted(chat.prompts) == ['{"n": 0} 2026-01-30', '{"n": 1} 2026-01-31', '{"n": 2} 2026-01-30']


@pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
async def test_an_empty_table(chat: Chat, api: Api, attempt: MakeContext, database: Database) -> None:
    """Nothing to ask is no error, and the table of answers is there for whoever reads it next."""
    database.execute("CREATE TABLE items (id INTEGER, body TEXT)")
    assert counts(await ask(attempt(), api)) == (0, 0, 0)
    assert database.count("answers") == 0
    assert chat.prompts == []


def test_a_template_takes_names_and_nothing_else() -> None:
    """A name is looked up as it stands, a doubled brace is a brace, and what a row holds is not looked at again."""
    template = "{a.b} {{x}} {__class__}{a.b}{{{0}}}"
    assert columns_of(template) == ["a.b", "__class__", "0"]
    values = {"a.b": "{__class__}", "__class__": "{{", "0": "{a.b}"}
    assert fill(template, values) == "{__class__} {x} {{{__class__}{{a.b}}"


@pytest.mark.parametrize(
    ("params", "problem"),
    [
        ({"prompt": "no column"}, "names no {column}"),
        ({"prompt": "{body} }"}, "a brace at position 8"),
        ({"prompt": "{body} {}"}, "a brace at position 8"),
        ({"prompt": "{bo{dy}"}, "a brace at position 1"),
        ({"file": "a.ndjson"}, "either table or file"),
        ({"table": None}, "either table or file"),
        ({"table": None, "file": "../a.ndjson"}, "file"),
        ({"table": None, "file": "/etc/passwd"}, "file"),
        ({"table": None, "file": ".hidden"}, "file"),
        ({"output": "Items"}, "output is the table that is read"),
        ({"output": "_jobdeck_sync"}, "another name"),
        ({"table": "pg_shadow"}, "another name"),
        ({"key": "answer"}, "key may not be called answer"),
        ({"key": 'i"d'}, "key"),
        ({"concurrency": 0}, "concurrency"),
        ({"concurrency": 33}, "concurrency"),
        ({"retries": 11}, "retries"),
        ({"timeout": "11m"}, "timeout"),
        ({"max_total_tokens": 0}, "max_total_tokens"),
        ({"temperature": 2.1}, "temperature"),
        ({"api_key": "sk-in-clear"}, "never in clear"),
        ({"base_url": "https://h/v1?key=1"}, "base_url"),
        ({"base_url": "ftp://h/v1"}, "base_url"),
        ({"target": "postgresql://me:pw@h/d"}, "password in clear"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "schema": {"type": "no"}},
                }
            },
            "is not a JSON schema",
        ),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "schema": {"items": [{"$ref": "http://127.0.0.1/x"}]}},
                }
            },
            "response_format",
        ),
    ],
)
def test_wrong_params_are_refused(params: dict[str, Any], problem: str) -> None:
    """Params that cannot work are refused in one line that says which."""
    good = {
        "base_url": "https://h/v1",
        "model": "m",
        "prompt": "{body}",
        "table": "items",
        "output": "answers",
    }
    llm_batch.parse(good)
    with pytest.raises(ValidationError, match=problem):
        llm_batch.parse(good | params)
