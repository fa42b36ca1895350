"""Pass rows of a class to statements, a column each, and make rows of what statements return.

The columns are the fields of a dataclass, a NamedTuple or a Struct, by name, and their types are the annotations:
`int` is bigint, `dict` and `list` are jsonb, `Sequence[str]` is text[]; `Annotated[dict[str, Any], "json"]` is json.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import date, datetime
from decimal import Decimal
from functools import cache
from operator import attrgetter
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints
from uuid import UUID

import orjson

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

ExactJson = Annotated[dict[str, Any], "jsonb as text"]
"""A document whose Decimals are stored with all of their digits."""


def names(row: type, prefix: str = "") -> str:
    """Return the columns of `row` for a statement, each with the prefix, as in `s.id, s.symbol`."""
    return ", ".join(prefix + name for name in _types(row))


def unnest(row: type, alias: str = "n", *, first: int = 1) -> str:
    """Return rows of this class as an item of FROM; their columns are the parameters from `first` on."""
    types = _types(row)
    arrays = (f"${n}::{'text' if each in _FROM_JSON else each}[]" for n, each in enumerate(types.values(), first))
    named = f"{alias} ({', '.join(types)})"
    listed = f"unnest({', '.join(arrays)}) AS {named}"
    if _FROM_JSON.keys().isdisjoint(types.values()):
        return listed
    values = (_FROM_JSON.get(each, "{0}").format(name) for name, each in types.items())
    return f"(SELECT {', '.join(values)} FROM {listed}) AS {named}"


def insert(table: str, row: type, /, **values: str) -> str:
    """Return the beginning of an INSERT of rows `n`; `values` gives columns that are not a field as it is, in SQL."""
    columns = {name: f"n.{name}" for name in _types(row)} | values
    return f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(columns.values())} FROM {unnest(row)}"


def upsert(table: str, row: type, /, *, key: Sequence[str], keep: Collection[str] = (), **values: str) -> str:
    """Return an `insert` that replaces what has the same key, but for the columns to keep."""
    changed = [name for name in _types(row) | values if name not in key and name not in keep]
    updates = ", ".join(f"{name} = excluded.{name}" for name in changed)
    return f"{insert(table, row, **values)} ON CONFLICT ({', '.join(key)}) DO UPDATE SET {updates}"


def columns(row: type[Row], rows: Iterable[Row]) -> Sequence[Sequence[object]]:
    """Return the parameters for an `unnest` of these rows."""
    types = _types(row)  # type: ignore[arg-type]  # mypy takes a type[TypeVar] for unhashable
    found: list[Sequence[object]] = list(zip(*map(attrgetter(*types), rows), strict=True)) or [()] * len(types)
    for place, each in enumerate(types.values()):
        if each in _FROM_JSON:
            found[place] = [None if value is None else exact_json(value) for value in found[place]]
    return found


def rows_of(row: Callable[..., Row], records: Iterable[Iterable[object]]) -> list[Row]:
    """Return each record as a row: its columns are the fields, in their order."""
    return [row(*record) for record in records]


def row_of(row: Callable[..., Row], record: Iterable[object] | None) -> Row | None:
    """Return the record as a row; None for None."""
    return None if record is None else row(*record)


def exact_json(value: object) -> str:
    """Return JSON text in which a Decimal is a number with all of its digits."""
    return orjson.dumps(value, default=_exact).decode()


def _exact(value: object) -> Any:
    if isinstance(value, Decimal):
        return orjson.Fragment(f"{value:f}")
    raise TypeError(f"{type(value).__name__} is not JSON")


@cache
def _types(row: type) -> dict[str, str]:
    hints = get_type_hints(row, include_extras=True)
    return {name: _type_of(hints[name]) for name in row.__match_args__}  # type: ignore[attr-defined]


def _type_of(hint: Any) -> str:
    if get_origin(hint) is Annotated:
        return str(hint.__metadata__[0])
    if type(None) in (choices := get_args(hint)):
        [hint] = (each for each in choices if each is not type(None))
        return _type_of(hint)
    return _TYPES[get_origin(hint) or hint]
