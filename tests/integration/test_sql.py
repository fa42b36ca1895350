"""Every statement of db/ is one that the migrated schema understands."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import asyncpg
import pytest

import db

KEYWORDS = ("select", "insert", "update", "delete", "with")


def _statements() -> Iterator[tuple[str, str]]:
    for module in pkgutil.walk_packages(db.__path__, "db."):
        for name, value in vars(importlib.import_module(module.name)).items():
            for key, statement in _alternatives(value) if name.isupper() else ():
                if isinstance(statement, str) and statement.split()[:1] and statement.split()[0].lower() in KEYWORDS:
                    yield f"{module.name}.{name}{key}", statement


def _alternatives(value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        yield from ((f"[{key}]", each) for key, each in value.items())
    elif isinstance(value, tuple):
        yield from ((f"[{number}]", each) for number, each in enumerate(value))
    else:
        yield "", value


STATEMENTS = dict(_statements())


def test_the_statements_are_found() -> None:
    assert {
        "db.lens.intake.INSERT_EVENTS",
        "db.lens.stages.MOVE",
        "db.signals.writes.INSERT_SIGNALS",
        "db.streaks.UPSERT_STREAKS[provider]",
        "db.users.tokens.EXPIRE[0]",
    } <= STATEMENTS.keys()


async def test_every_statement_can_be_prepared(database_url: str) -> None:
    conn = await asyncpg.connect(database_url)
    try:
        for name, statement in STATEMENTS.items():
            try:
                await conn.prepare(statement)
            except asyncpg.PostgresError as error:
                pytest.fail(f"{name}: {error}")
    finally:
        await conn.close()
