"""`llm_batch` and rows that cannot be asked about: refused with the reason, before the first request."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from jobdeck import Discard, GuardedClient
from jobdeck_handlers.llm_batch import file_input
from tests.handlers.api import Api
from tests.handlers.chat import Chat, ask, counts, items
from tests.handlers.conftest import MakeContext
from tests.handlers.context import OTHER_RUN, RUN, RecordingContext
from tests.handlers.databases import Database
from tests.handlers.exporting import Exports


@pytest.fixture
def chat(api: Api) -> Chat:
    return Chat(api)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder for the files of the project crm, beside its data file."""
    made = tmp_path / "crm"
    made.mkdir()
    return made


@pytest.fixture
def data_file(tmp_path: Path) -> Database:
    return Database(f"sqlite:///{tmp_path / 'crm.db'}")


def _settings(data_file: Database) -> dict[str, str]:
    return {"data_file_url": data_file.url, "files_folder": data_file.url.removeprefix("sqlite:///")[:-3]}


async def ask_file(
    client: GuardedClient, api: Api, data_file: Database, run_id: Any = RUN, **params: Any
) -> Any:
    ctx = RecordingContext(client, _settings(data_file), run_id=run_id)
    return await ask(ctx, api, **({"file": "rows.ndjson"} | params))


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ("(1, 'a'), (NULL, 'b'), (NULL, 'c')", "2 of 3 rows of items have no id; every row needs a key"),
        (
            "(1, 'a'), (2, 'b'), (2, 'c')",
            "does not identify the rows of items: 1 have the key of another one, like '2'",
        ),
    ],
)
async def test_keys_that_identify_no_row(
    rows: str, problem: str, chat: Chat, api: Api, attempt: MakeContext, database: Database
) -> None:
    """NULL and doubled keys are refused: their answers could not be told apart."""
    database.execute("CREATE TABLE items (id INTEGER, body TEXT)")
    database.execute(f"INSERT INTO items VALUES {rows}")
    with pytest.raises(Discard, match=problem):
        await ask(attempt(), api)
    assert api.asked == []
    assert database.tables() == {"items"}


@pytest.mark.parametrize("name", ["bodi", "__class__", "body.x", "body!r", "body[0]", "BODY", "0"])
async def test_names_that_are_no_columns(
    name: str, chat: Chat, api: Api, attempt: MakeContext, database: Database
) -> None:
    """A name is a column of the table or refused, whatever it looks like to a template language."""
    items(database, 1)
    with pytest.raises(Discard) as caught:
        await ask(attempt(), api, prompt=f"{{body}} {{{name}}}")
    assert str(caught.value) == f"items has no column {name}; it has id, body"
    assert api.asked == []


async def test_columns_of_any_name_and_type(
    chat: Chat, api: Api, attempt: MakeContext, database: Database
) -> None:
    """What the database makes of a value as text is what is sent; names need not be simple."""
    database.execute('CREATE TABLE items (id BIGINT, "a.b c%\\:d" NUMERIC(5,2), "Ü" TEXT, id2 REAL)')
    database.execute("INSERT INTO items VALUES (9007199254740993, 1.25, 'ü', 0.5)")
    await ask(attempt(), api, prompt="{id} {a.b c%:d} {Ü} {id2}")
    assert chat.prompts == ["9007199254740993 1.25 ü 0.5"]
    assert database.column("SELECT id FROM answers") == [9007199254740993]


@pytest.mark.parametrize(
    ("params", "problem"),
    [
        ({"table": "nothing"}, "there is no table nothing"),
        ({"key": "no"}, "items has no column no"),
        ({"key": "ratio"}, "ratio cannot be the key"),
        ({"output": "other"}, "other is not a table of answers: it has no column answer"),
    ],
)
async def test_tables_that_will_not_do(
    params: dict[str, Any], problem: str, chat: Chat, api: Api, attempt: MakeContext, database: Database
) -> None:
    """A missing table or column, a key of another kind and somebody else's table as the output are refused."""
    database.execute("CREATE TABLE items (id INTEGER, body TEXT, ratio FLOAT)")
    database.execute("INSERT INTO items VALUES (1, 'a', 0.5)")
    database.execute("CREATE TABLE other (id INTEGER)")
    with pytest.raises(Discard, match=problem):
        await ask(attempt(), api, **params)
    assert api.asked == []


async def test_a_table_of_answers_that_people_have_changed(
    chat: Chat, api: Api, attempt: MakeContext, database: Database
) -> None:
    """Columns of their own stay as they are; without a unique key there is no one answer for each row."""
    items(database, 2)
    await ask(attempt(), api)
    database.execute("ALTER TABLE answers ADD COLUMN reviewed TEXT")
    database.execute("UPDATE answers SET reviewed = 'yes'")
    await ask(attempt(run_id=OTHER_RUN), api, model="other")
    assert database.column("SELECT reviewed FROM answers") == ["yes", "yes"]
    database.execute("CREATE TABLE copy AS SELECT * FROM answers")
    with pytest.raises(Discard, match="copy needs a unique index on id"):
        await ask(attempt(run_id=OTHER_RUN), api, output="copy")
    database.execute("CREATE UNIQUE INDEX by_id ON copy (id)")
    items(database, 1, start=3)
    assert counts(await ask(attempt(run_id=OTHER_RUN), api, model="other", output="copy")) == (3, 0, 0)


@pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)
async def test_values_that_sqlite_takes_anywhere(
    chat: Chat, api: Api, attempt: MakeContext, database: Database
) -> None:
    """Keys of mixed kinds are refused; bytes that are no UTF-8 do not stop a run."""
    database.execute("CREATE TABLE items (id, body)")
    database.execute("INSERT INTO items VALUES (1, x'61ff00'), ('1', 'b')")
    with pytest.raises(Discard, match="holds integer and text, and should hold whole numbers or text alone"):
        await ask(attempt(), api)
    database.execute("DELETE FROM items WHERE body = 'b'")
    await ask(attempt(), api)
    assert chat.prompts == ["a\ufffd\x00"]


async def test_the_own_database_is_neither_read_nor_written(
    chat: Chat, api: Api, attempt: MakeContext, database: Database
) -> None:
    """jobdeck's own tables are not sent to anybody's model."""
    for table in ("runs", "leases", "job_types"):
        database.execute(f"CREATE TABLE {table} (id INTEGER, body TEXT)")
    with pytest.raises(Discard, match="own database"):
        await ask(attempt(), api, table="runs")
    assert api.asked == []


async def test_rows_of_a_file(
    chat: Chat, api: Api, client: GuardedClient, folder: Path, data_file: Database
) -> None:
    """Each line is a row, in the order of its key; nested values are sent as JSON, what is missing as nothing."""
    rows = [
        {"id": 3, "a": "drei", "A": "upper", "b.c": {"n": [1]}},
        {"id": 1, "a": None, "b.c": True},
        {"id": 2, "a": "half \ud800", "b.c": 0.5, "more": "x"},
    ]
    text = "\n\n".join(json.dumps(row) for row in rows)
    (folder / "rows.ndjson").write_text(text)
    params: dict[str, Any] = {"prompt": "{a}|{A}|{b.c}|{id}", "concurrency": 1}
    assert counts(await ask_file(client, api, data_file, **params)) == (3, 0, 0)
    assert chat.prompts == ["||true|1", "half ?||0.5|2", 'drei|upper|{"n": [1]}|3']
    assert data_file.column("SELECT id FROM answers ORDER BY id") == [1, 2, 3]
    assert counts(await ask_file(client, api, data_file, OTHER_RUN, **params)) == (0, 0, 3)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('{"id": 1, "a": 1}\n\n{"id": 1', "line 3 of rows.ndjson is not JSON"),
        ("[1]", "line 1 of rows.ndjson is no JSON object"),
        ("[" * 100_000, "line 1 of rows.ndjson is not JSON"),
        ('{"id": 1.5, "a": 1}', "line 1 .* neither a whole number nor text"),
        ('{"id": true, "a": 1}', "line 1 .* neither a whole number nor text"),
        ('{"id": 9223372036854775808, "a": 1}', "line 1 .* neither a whole number nor text"),
        ('{"id": "\\u0000", "a": 1}', "line 1 .* neither a whole number nor text"),
        ('{"id": 1, "a": 1}\n{"a": 2}', "1 of 2 rows of rows.ndjson have no id"),
        ('{"id": 1, "a": 1}\n{"id": 1, "a": 2}', "does not identify the rows of rows.ndjson"),
        ('{"id": 1, "a": 1}\n{"id": "1", "a": 2}', "holds integer and text"),
        ('{"id": 1, "b": 1}', "no row of rows.ndjson has a$"),
        ('{"id": 1, "a": "' + "x" * file_input.LINE_BYTES + '"}', "line 1 of rows.ndjson is longer than"),
    ],
)
async def test_files_that_will_not_do(
    content: str,
    problem: str,
    chat: Chat,
    api: Api,
    client: GuardedClient,
    folder: Path,
    data_file: Database,
) -> None:
    """A line that is no row, and keys that identify none, are refused with the line, before anything is asked."""
    (folder / "rows.ndjson").write_text(content)
    with pytest.raises(Discard, match=problem):
        await ask_file(client, api, data_file, prompt="{a}")
    assert api.asked == []


async def test_no_other_file_is_read(
    chat: Chat, api: Api, client: GuardedClient, folder: Path, data_file: Database, tmp_path: Path
) -> None:
    """Only regular files of the project's own folder: no links out of it, no pipes, no folders, nobody else's."""
    (tmp_path / "secret.ndjson").write_text('{"id": 1, "a": "secret"}')
    (folder / "soft").symlink_to(tmp_path / "secret.ndjson")
    os.mkfifo(folder / "pipe")
    (folder / "inner").mkdir()
    for name in ("soft", "pipe", "inner", "missing", "secret.ndjson"):
        with pytest.raises(Discard, match=name):
            await ask_file(client, api, data_file, file=name, prompt="{a}")
    _become_a_link(folder, tmp_path / "real")
    (tmp_path / "real" / "rows.ndjson").write_text('{"id": 1, "a": "x"}')
    with pytest.raises(Discard, match=r"rows\.ndjson cannot be read"):
        await ask_file(client, api, data_file, prompt="{a}")
    assert api.asked == []


async def test_what_export_writes_can_be_asked_about(
    chat: Chat, api: Api, client: GuardedClient, folder: Path, data_file: Database
) -> None:
    """The folder that files are exported to is the one they are read from: by the name that `export` gives back."""
    items(data_file, 3)
    exports = Exports(data_file.url, folder)
    written = await exports.run("SELECT id, body FROM items", format="jsonl", file="items-{run}")
    result = await ask_file(client, api, data_file, file=written["path"])
    assert counts(result) == (3, 0, 0)
    assert len(data_file.rows("SELECT id FROM answers")) == 3


def _become_a_link(folder: Path, real: Path) -> None:
    folder.rename(real)
    folder.symlink_to(real)
