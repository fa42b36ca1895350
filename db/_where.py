"""Build statements with only the given filters: one for each combination, which Postgres plans once.

The alternative, `$1 IS NULL OR symbol = $1`, is one statement for all of them, whose one generic plan suits none.
"""

from __future__ import annotations

from collections.abc import Iterable

from config.ids import first_id, last_id

Condition = tuple[str, object]
"""SQL with one `{}` for its parameter, and the parameter; or SQL without one, and None."""

WHERE = "/* where */"
"""Where the clause goes in a statement."""


def given(filters: object, **texts: str) -> list[Condition]:
    """Return the SQL of those fields of `filters` that are not None; `since` and `until` are the times of UUIDv7s."""
    bounds = {"since": first_id, "until": last_id}
    values = {name: value for name in texts if (value := getattr(filters, name)) is not None}
    return [(texts[name], bounds[name](value) if name in bounds else value) for name, value in values.items()]


def filtered(statement: str, conditions: Iterable[Condition], *, first: int = 1) -> tuple[str, list[object]]:
    """Return the statement with all the conditions, and their parameters, which are numbered from `first`."""
    clauses: list[str] = []
    values: list[object] = []
    for text, value in conditions:
        if "{}" in text:
            text = text.format(f"${first + len(values)}")
            values.append(value)
        clauses.append(text)
    return statement.replace(WHERE, "WHERE " + " AND ".join(clauses) if clauses else ""), values
