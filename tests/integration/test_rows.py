"""Rows of a class go to Postgres by the names of their fields, whatever their types, and come back as they were."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID

from config.values import Value
from db._postgres import Connection, create_pool
from db._rows import ExactJson, columns, insert, names, row_of, rows_of, unnest, upsert

TABLE = """
CREATE TABLE things (
    at timestamptz, day date, amount numeric, small smallint, size int, share float8, is_on bool, hash bytea,
    id uuid PRIMARY KEY, kind text, name text, document jsonb, ordered json, exact jsonb, items jsonb, words text[],
    doubled int
)
"""


@dataclass(frozen=True)
class ThingRow:
    """A row with a column of every type, in another order than the table's."""

    id: UUID
    name: str | None
    kind: Literal["a", "b"] | None
    small: int | None
    size: int | None
    share: float | None
    is_on: bool | None
    hash: bytes | None
    amount: Decimal | None
    day: date | None
    at: datetime | None
    document: dict[str, Any] | None
    ordered: Annotated[dict[str, Any], "json"] | None
    exact: ExactJson | None
    items: list[Any] | None
    words: Sequence[str] | None


FULL = ThingRow(
    id=UUID(int=1),
    name="é",
    kind="b",
    small=-(2**15),
    size=2**31 - 1,
    share=0.1,
    is_on=True,
    hash=b"\0\xff",
    amount=Decimal("0.1000000000000000000001"),
    day=date(2024, 2, 29),
    at=datetime(2024, 1, 15, 10, 30, 0, 123456, tzinfo=UTC),
    document={"a": [1, {"b": None}]},
    ordered={"z": 1, "a": 2},
    exact={"price": Decimal("0.10000000000000000000")},
    items=[[1, 2], {"a": None}, "x"],
    words=["a,b", '"', "{}", "\\", ""],
)
EMPTY = ThingRow(UUID(int=2), *[None] * 15)
PLAIN = replace(FULL, id=UUID(int=3), document={}, ordered={}, exact={}, items=[], words=[])

INSERT = insert("things", ThingRow, doubled="2 * n.share")
UPSERT = upsert("things", ThingRow, key=("id",), keep=("kind", "at"))


@asynccontextmanager
async def a_table(database_url: str) -> AsyncIterator[Connection]:
    pool = await create_pool(database_url, 1, name="test rows")
    async with pool, pool.acquire() as conn:
        await conn.execute(TABLE)
        yield conn


async def stored(conn: Connection) -> list[ThingRow]:
    return rows_of(ThingRow, await conn.fetch(f"SELECT {names(ThingRow)} FROM things ORDER BY id"))


async def test_rows_of_every_type_are_inserted_together_and_read_back_as_they_were(database_url: str) -> None:
    async with a_table(database_url) as conn:
        await conn.execute(INSERT, *columns(ThingRow, [FULL, EMPTY, PLAIN]))
        found = await stored(conn)
        assert found == [replace(FULL, exact={"price": 0.1}), EMPTY, PLAIN]
        assert list((found[0].ordered or {}).items()) == [("z", 1), ("a", 2)]
        assert await conn.fetchval("SELECT exact->>'price' FROM things WHERE id = $1", FULL.id) == (
            "0.10000000000000000000"
        )
        assert [row[0] for row in await conn.fetch("SELECT doubled FROM things ORDER BY id")] == [0, None, 0]


async def test_no_rows_are_as_many_empty_columns_as_the_statement_takes(database_url: str) -> None:
    async with a_table(database_url) as conn:
        await conn.execute(INSERT, *columns(ThingRow, []))
        assert await stored(conn) == []


async def test_an_upsert_replaces_every_column_but_those_to_keep(database_url: str) -> None:
    async with a_table(database_url) as conn:
        await conn.execute(UPSERT, *columns(ThingRow, [PLAIN]))
        await conn.execute(UPSERT, *columns(ThingRow, [replace(EMPTY, id=PLAIN.id), EMPTY]))
        assert await stored(conn) == [EMPTY, replace(EMPTY, id=PLAIN.id, kind=PLAIN.kind, at=PLAIN.at)]


class Pair(NamedTuple):
    id: UUID
    words: tuple[str, ...]


class Renamed(Value):
    id: UUID
    name: str
    factor: int = 3


async def test_named_tuples_and_structs_are_rows_too_and_join_any_statement(database_url: str) -> None:
    async with a_table(database_url) as conn:
        await conn.execute(INSERT, *columns(ThingRow, [FULL, EMPTY]))
        rename = f"""
            UPDATE things t SET name = r.name || $1, size = r.factor
            FROM {unnest(Renamed, alias="r", first=2)} WHERE t.id = r.id"""
        await conn.execute(rename, "!", *columns(Renamed, [Renamed(EMPTY.id, "new"), Renamed(UUID(int=9), "none")]))
        pairs = [Pair(EMPTY.id, ("x", "y")), Pair(FULL.id, ())]
        query = f"SELECT p.id, t.name, p.words FROM {unnest(Pair, alias='p')} JOIN things t USING (id) ORDER BY id"
        assert [tuple(row) for row in await conn.fetch(query, *columns(Pair, pairs))] == [
            (FULL.id, "é", []),
            (EMPTY.id, "new!", ["x", "y"]),
        ]
        assert await conn.fetchval("SELECT size FROM things WHERE id = $1", EMPTY.id) == 3


def test_a_record_that_is_missing_is_no_row() -> None:
    assert row_of(Pair, None) is None
    assert row_of(Pair, (UUID(int=1), ())) == Pair(UUID(int=1), ())
