"""The table of answers: what is in it is how far a run has come, and what no run need ask again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    DateTime,
    MetaData,
    Table,
    Text,
    Uuid,
    and_,
    func,
    inspect,
    or_,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.types import TypeEngine

from jobdeck import Discard
from jobdeck_handlers.databases.destination import refuse_own
from jobdeck_handlers.databases.target import Target
from jobdeck_handlers.llm_batch.answer import ERROR_CHARS, Answer, Key
from jobdeck_handlers.llm_batch.tally import RowError, Tally

# Any number, the same in every version: two workers must not make the table at the same moment.
_ADVISORY_LOCK: Final = 0x6A6F6264_65636B02
_ERRORS_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Done:
    """Those of some keys that are not to be asked about."""

    by_this_run: set[Key]
    before: set[Key]
    """Answered by another run."""


class Output:
    """The table `name` of a target, keyed by `key`, as the run `run_id` uses it for one question."""

    def __init__(self, target: Target, name: str, key: str, prompt_hash: str, run_id: UUID) -> None:
        self._target = target
        self._name = name
        self._key = key
        self._hash = prompt_hash
        self._run_id = str(run_id)
        self._texts_for_keys = False

    async def prepare(self, key_type: type[TypeEngine[Any]]) -> Tally:
        """Make the table where it is missing; what this run has done already. Raises Discard for another's table."""
        return await self._target.transact(partial(self._prepare, key_type=key_type))

    async def done(self, keys: Sequence[Key]) -> Done:
        """Which of the keys have an answer, or a failure in this run."""
        return await self._target.transact(lambda conn: self._done(conn, keys))

    async def store(self, answers: Sequence[Answer]) -> None:
        """Store them in one transaction. An answer to the same question that is there already stays."""
        now = datetime.now(UTC)
        rows = [self._row(each, now) for each in answers]
        await self._target.transact(lambda conn: self._store(conn, rows))

    async def first_errors(self) -> list[RowError]:
        """The first failures of this run, by key."""
        return await self._target.transact(self._first_errors)

    def _prepare(self, conn: Connection, key_type: type[TypeEngine[Any]]) -> Tally:
        refuse_own(conn)
        # SQLite has no type for UUIDs; as text they are what people see and join by.
        self._texts_for_keys = key_type is Uuid and conn.dialect.name == "sqlite"
        self._table = _table(self._name, self._key, Text if self._texts_for_keys else key_type)
        if conn.dialect.name == "postgresql":
            conn.execute(select(func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
        if inspect(conn).has_table(self._name):
            self._refuse_others(conn)
        else:
            self._table.create(conn)
        return self._tally(conn)

    def _refuse_others(self, conn: Connection) -> None:
        there = {each["name"] for each in inspect(conn).get_columns(self._name)}
        missing = [each.name for each in self._table.columns if each.name not in there]
        if missing:
            raise Discard(
                f"{self._name} is not a table of answers: it has no column {', '.join(missing)}; name another output"
            )
        unique: list[Sequence[str | None]] = [
            inspect(conn).get_pk_constraint(self._name)["constrained_columns"]
        ]
        unique += [each["column_names"] for each in inspect(conn).get_indexes(self._name) if each["unique"]]
        unique += [each["column_names"] for each in inspect(conn).get_unique_constraints(self._name)]
        if [self._key] not in unique:
            raise Discard(f"{self._name} needs a unique index on {self._key} to hold one answer for each row")

    def _tally(self, conn: Connection) -> Tally:
        columns = self._table.c
        tokens = [columns.prompt_tokens, columns.completion_tokens, columns.total_tokens]
        counts = select(
            func.count() - func.count(columns.error),
            func.count(columns.error),
            *(func.coalesce(func.sum(each), 0) for each in tokens),
        ).where(columns.run_id == self._run_id, columns.prompt_hash == self._hash)
        answered, failed, *used = map(int, conn.execute(counts).one())
        return Tally(0, answered, failed, 0, *used)

    def _done(self, conn: Connection, keys: Sequence[Key]) -> Done:
        columns = self._table.c
        asked = {self._stored(key): key for key in keys}
        query = select(columns[self._key], columns.run_id).where(
            columns[self._key].in_(list(asked)),
            columns.prompt_hash == self._hash,
            or_(columns.error.is_(None), columns.run_id == self._run_id),
        )
        found = {asked[key]: run_id == self._run_id for key, run_id in conn.execute(query) if key in asked}
        return Done(
            {key for key, mine in found.items() if mine}, {key for key, mine in found.items() if not mine}
        )

    def _store(self, conn: Connection, rows: Sequence[dict[str, Any]]) -> None:
        of_server = conn.dialect.name == "postgresql"
        insert: Any = postgresql.insert(self._table) if of_server else sqlite.insert(self._table)
        there, given = self._table.c, insert.excluded
        answered = and_(there.prompt_hash == given.prompt_hash, there.error.is_(None))
        upsert = insert.on_conflict_do_update(
            index_elements=[self._key],
            set_={each.name: given[each.name] for each in there if each.name != self._key},
            where=~answered,
        )
        conn.execute(upsert, rows)

    def _first_errors(self, conn: Connection) -> list[RowError]:
        columns = self._table.c
        query = (
            select(columns[self._key], columns.error)
            .where(
                columns.run_id == self._run_id,
                columns.prompt_hash == self._hash,
                columns.error.is_not(None),
            )
            .order_by(columns[self._key])
            .limit(_ERRORS_SHOWN)
        )
        return [RowError(key=str(key), error=error) for key, error in conn.execute(query)]

    def _row(self, answer: Answer, now: datetime) -> dict[str, Any]:
        return {
            self._key: self._stored(answer.key),
            "answer": answer.text,
            "finish_reason": answer.finish_reason,
            "prompt_tokens": answer.usage.prompt,
            "completion_tokens": answer.usage.completion,
            "total_tokens": answer.usage.total,
            "error": None if answer.error is None else answer.error[:ERROR_CHARS],
            "model": answer.model,
            "prompt_hash": self._hash,
            "run_id": self._run_id,
            "finished_at": now,
        }

    def _stored(self, key: Key) -> Key:
        return str(key) if self._texts_for_keys else key


def _table(name: str, key: str, key_type: type[TypeEngine[Any]]) -> Table:
    return Table(
        name,
        MetaData(),
        Column(key, key_type, primary_key=True, autoincrement=False),
        Column("answer", Text),
        Column("finish_reason", Text),
        Column("prompt_tokens", BigInteger),
        Column("completion_tokens", BigInteger),
        Column("total_tokens", BigInteger),
        Column("error", Text),
        Column("model", Text),
        Column("prompt_hash", Text, nullable=False),
        Column("run_id", Text, nullable=False),
        Column("finished_at", DateTime(timezone=True), nullable=False),
    )
