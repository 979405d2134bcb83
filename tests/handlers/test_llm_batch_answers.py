"""`llm_batch` and what an endpoint can put into an answer: other forms than asked for, nothing, too much, poison."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest

from jobdeck import Discard
from jobdeck_handlers.llm_batch import endpoint
from jobdeck_handlers.llm_batch.answer import misfit_of
from jobdeck_handlers.llm_batch.params import JsonSchema, NamedSchema
from tests.handlers.api import Api, Reply
from tests.handlers.chat import PATH, Chat, ask, completion, counts, items
from tests.handlers.conftest import MakeContext
from tests.handlers.databases import Database

on_sqlite = pytest.mark.parametrize("database_kind", ["sqlite"], indirect=True)


@pytest.fixture
def chat(api: Api) -> Chat:
    return Chat(api)


def errors(database: Database) -> dict[int, str | None]:
    return {row["id"]: row["error"] for row in database.rows("SELECT id, error FROM answers")}


SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "mood",
        "strict": True,
        "schema": {
            "type": "object",
            "required": ["mood"],
            "properties": {"mood": {"enum": ["good", "bad"], "default": None}},
        },
    },
}


@on_sqlite
@pytest.mark.parametrize(
    ("form", "content", "problem"),
    [
        (None, 'not "JSON"', None),
        (None, "", None),
        ({"type": "json_object"}, '{"a": 1}', None),
        ({"type": "json_object"}, "[1]", "but no object"),
        ({"type": "json_object"}, '```json\n{"a": 1}\n```', "is not JSON"),
        ({"type": "json_object"}, '{"a": NaN}', "is not JSON"),
        ({"type": "json_object"}, "[" * 100_000, "is nested too deeply"),
        (SCHEMA, '{"mood": "good"}', None),
        (SCHEMA, '{"mood": "ugly"}', r"does not fit the schema: \$.mood: 'ugly' is not one of"),
        (SCHEMA, "{}", "'mood' is a required property"),
    ],
)
async def test_answers_have_the_form_that_was_asked_for(
    form: Any,
    content: str,
    problem: str | None,
    chat: Chat,
    api: Api,
    attempt: MakeContext,
    database: Database,
) -> None:
    """An answer of another form is a failure, paid for and not asked again; one that fits is stored as it came."""
    items(database, 2)
    good = '{"mood": "bad"}'
    chat.plans = {"text 1": deque([completion(content)]), "text 2": deque([completion(good)])}
    result = await ask(attempt(), api, response_format=form)
    assert chat.bodies[0].get("response_format") == form
    [row] = database.rows("SELECT answer, error, total_tokens FROM answers WHERE id = 1")
    if problem is None:
        assert (row["answer"], row["error"]) == (content, None)
    else:
        assert row["answer"] is None
        with pytest.raises(AssertionError, match=problem):
            raise AssertionError(row["error"])
    assert (len(chat.prompts), result["total_tokens"], row["total_tokens"]) == (2, 20, 10)


@on_sqlite
async def test_a_schema_fetches_nothing(
    chat: Chat, api: Api, attempt: MakeContext, database: Database
) -> None:
    """A reference that the schema does not hold ends the run; it is not looked for elsewhere."""
    items(database, 1)
    schema = {"$id": api.url("/schema"), "$ref": "#/$defs/none"}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    chat.plan.append(completion("{}"))
    with pytest.raises(Discard, match="refers to"):
        await ask(attempt(), api, response_format=form)
    # Params refuse such a reference; the validator by itself does not follow it either.
    outside = NamedSchema.model_construct(json_schema={"$ref": api.url("/schema")})
    with pytest.raises(Discard, match="refers to"):
        misfit_of(JsonSchema.model_construct(json_schema=outside))("{}")
    assert {asked.path for asked in api.asked} == {PATH}


@on_sqlite
@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        (Reply([]), "the answer is no JSON object"),
        (Reply({"error": {"message": "model overloaded"}}), "the answer has no choices: model overloaded"),
        (Reply({"choices": []}), "the answer has no choices"),
        (Reply({"choices": [7]}), "the answer has no choices"),
        (Reply({"choices": [{"message": 7}]}), "the answer has no text"),
        (completion(None, finish="content_filter"), "the answer has no text (finish_reason content_filter)"),
        (completion([{"type": "text"}]), "the answer has no text (finish_reason stop)"),
        (completion(None, refusal="I would rather not."), "the model refused: I would rather not."),
        (completion("x" * endpoint.ANSWER_BYTES), "the answer has more than 2,097,152 bytes"),
    ],
)
async def test_answers_without_an_answer(
    reply: Reply, problem: str, chat: Chat, api: Api, attempt: MakeContext, database: Database
) -> None:
    """A body of another shape, and one that is too large to be read, is a failure of its row alone."""
    items(database, 2)
    chat.plans["text 1"] = deque([reply])
    assert counts(await ask(attempt(), api)) == (1, 1, 0)
    assert errors(database) == {1: problem, 2: None}
    assert len(chat.prompts) == 2


async def test_hostile_text_is_stored_as_text(
    chat: Chat, api: Api, attempt: MakeContext, database: Database
) -> None:
    """An answer stays what it is, terminal escapes and SQL included; what no database stores is replaced."""
    items(database, 1)
    content = "'); DROP TABLE items; --\x1b]0;owned\x07 \u202e {body} \x00 \ud800 ü\n"
    chat.plan.append(completion(content, finish="st\x00op" * 200))
    await ask(attempt(), api)
    [row] = database.rows("SELECT * FROM answers")
    assert row["answer"] == content.replace("\x00", "\ufffd").replace("\ud800", "\ufffd")
    assert len(row["finish_reason"]) == 256
