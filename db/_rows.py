"""Pass rows of a class to statements, a column each, and make rows of what statements return.

The columns are the fields of a dataclass, a NamedTuple or a Struct, by name, and their types are the annotations:
`int` is bigint, `dict` and `list` are jsonb, `Sequence[str]` is text[]; `Annotated[Document, "json"]` is json. A
field that is keyword-only is no column.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from functools import cache
from operator import attrgetter
from typing import Annotated, Any, Literal, TypeVar, cast, get_args, get_origin, get_type_hints
from uuid import UUID

import orjson
from msgspec import Struct
from msgspec.structs import astuple

from config.documents import Document

Row = TypeVar("Row")

_TYPES = {
    UUID: "uuid",
    str: "text",
    int: "bigint",
    float: "float8",
    bool: "bool",
    bytes: "bytea",
    Decimal: "numeric",
    date: "date",
    datetime: "timestamptz",
    dict: "jsonb",
    Mapping: "jsonb",
    list: "jsonb as text",
    tuple: "text[]",
    Sequence: "text[]",
    Literal: "text",
}
# These travel as JSON texts: the driver takes a list of lists for an array of two dimensions.
_FROM_JSON = {
    "jsonb as text": "{0}::jsonb",
    "text[]": "CASE WHEN {0} IS NOT NULL THEN ARRAY(SELECT jsonb_array_elements_text({0}::jsonb)) END",
}

Exact = Annotated[int, "numeric"]
"""A number without bounds."""

ExactJson = Annotated[Document, "jsonb as text"]
"""A document whose Decimals are stored with all of their digits."""


def names(row: type, prefix: str = "") -> str:
    """Return the columns of `row` for a statement, each with the prefix, as in `s.id, s.symbol`."""
    return ", ".join(prefix + name for name in _types(row))


def unnest(*rows: type, alias: str = "n", first: int = 1) -> str:
    """Return rows as an item of FROM; the columns, of one class or several, are the parameters from `first` on."""
    types = _types(*rows)
    arrays = (f"${n}::{'text' if each in _FROM_JSON else each}[]" for n, each in enumerate(types.values(), first))
    named = f"{alias} ({', '.join(types)})"
    listed = f"unnest({', '.join(arrays)}) AS {named}"
    if _FROM_JSON.keys().isdisjoint(types.values()):
        return listed
    values = (_FROM_JSON.get(each, "{0}").format(name) for name, each in types.items())
    return f"(SELECT {', '.join(values)} FROM {listed}) AS {named}"


def insert(table: str, *rows: type, skip: Collection[str] = (), **values: str) -> str:
    """Return an INSERT of rows `n`, to be continued, without the fields to skip; `values` are more columns, in SQL."""
    listed = {name: f"n.{name}" for name in _types(*rows) if name not in skip} | values
    return f"INSERT INTO {table} ({', '.join(listed)}) SELECT {', '.join(listed.values())} FROM {unnest(*rows)}"


def upsert(
    table: str, *rows: type, key: Collection[str], keep: Collection[str] = (), skip: Collection[str] = (), **values: str
) -> str:
    """Return an `insert` that replaces what has the same key, but for the columns to keep."""
    changed = [name for name in _types(*rows) | values if name not in {*key, *keep, *skip}]
    updates = ", ".join(f"{name} = excluded.{name}" for name in changed)
    return f"{insert(table, *rows, skip=skip, **values)} ON CONFLICT ({', '.join(key)}) DO UPDATE SET {updates}"


def columns(row: type[Row], rows: Iterable[Row]) -> Sequence[Sequence[object]]:
    """Return the parameters for an `unnest` of these rows."""
    types = _types(cast(Any, row))
    # `astuple` takes a quarter of attrgetter's time, and the pipeline's rows are Structs.
    values: Callable[[Any], tuple[object, ...]] = astuple if issubclass(row, Struct) else attrgetter(*types)
    found = transposed(map(values, rows), len(types))
    for place, each in enumerate(types.values()):
        if each in _FROM_JSON:
            found[place] = [None if value is None else exact_json(value) for value in found[place]]
    return found


def transposed(rows: Iterable[tuple[object, ...]], width: int) -> list[Sequence[object]]:
    """Return tuples of this width as that many columns, however few there are."""
    return list(zip(*rows, strict=True)) or [()] * width


def rows_of(row: Callable[..., Row], records: Iterable[Iterable[object]]) -> list[Row]:
    """Return each record as a row: its columns are the fields, in their order."""
    return [row(*record) for record in records]


def row_of(row: Callable[..., Row], record: Iterable[object] | None) -> Row | None:
    """Return the record as a row; None for None."""
    return None if record is None else row(*record)


def affected(status: str) -> int:
    """Return how many rows a statement has changed, from what `execute` returned."""
    return int(status.rpartition(" ")[2])


def exact_json(value: object) -> str:
    """Return JSON text in which a Decimal is a number with all of its digits."""
    return orjson.dumps(value, default=_exact).decode()


def _exact(value: object) -> orjson.Fragment:
    if isinstance(value, Decimal):
        return orjson.Fragment(f"{value:f}")
    raise TypeError(f"{type(value).__name__} is not JSON")


@cache
def _types(*rows: Any) -> dict[str, str]:
    hints = {row: get_type_hints(row, include_extras=True) for row in rows}
    return {name: _type_of(hints[row][name]) for row in rows for name in row.__match_args__}


def _type_of(hint: object) -> str:
    if get_origin(hint) is Annotated:
        return str(get_args(hint)[1])
    if type(None) in (choices := get_args(hint)):
        [hint] = (each for each in choices if each is not type(None))
        return _type_of(hint)
    return _TYPES[get_origin(hint) or hint]
