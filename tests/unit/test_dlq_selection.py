"""The query and the body of a bulk request, as one."""

from __future__ import annotations

from typing import Any

import pytest

from handlers._http.endpoint import load_query
from schemas.dlq import DeadLettersQuery, ResolveMany, RetryMany, RetryManyQuery, SelectionQuery, select
from schemas.errors import InvalidQuery, ValidationFailed
from schemas.lens import EventsQuery

EVENT = "550e8400-e29b-41d4-a716-446655440000"
SAME: list[tuple[str, object]] = [
    ("stage", "enrich"),
    ("reason_code", "TIMEOUT"),
    ("event_id", EVENT),
    ("resolved", False),
    ("since", "2026-01-01T00:00:00Z"),
    ("until", "2026-01-02T00:00:00Z"),
    ("dry_run", True),
    ("max", 7),
    ("per_second", 0.5),
]


def texts(values: dict[str, object]) -> dict[str, list[bytes]]:
    """The values as a query has them."""
    return {
        name: [str(value).lower().encode() if value in (True, False) else str(value).encode()]
        for name, value in values.items()
    }


def test_a_query_means_what_the_same_body_means() -> None:
    query, body = load_query(RetryManyQuery(), texts(dict(SAME))), RetryMany().load(dict(SAME))
    assert select(query, {}) == select({}, body) == select(query, body) == body
    assert select({}, {})["max"] == 100
    assert {name for name, value in select({}, {}).items() if value} == {"max"}


@pytest.mark.parametrize(("name", "value"), SAME)
def test_each_filter_may_be_in_the_query_or_the_body(name: str, value: Any) -> None:
    others = dict(SAME)
    del others[name]
    query = load_query(RetryManyQuery(), texts({name: value}))
    assert select(query, RetryMany().load(others)) == RetryMany().load(dict(SAME))


def test_a_query_and_a_body_that_differ_are_refused_by_name() -> None:
    query = load_query(SelectionQuery(), texts({"stage": "enrich", "max": 7, "dry_run": True}))
    with pytest.raises(ValidationFailed) as refused:
        select(query, ResolveMany().load({"resolution_note": "x", "stage": "publish", "max": 7, "dry_run": False}))
    assert [each.field for each in refused.value.details] == ["stage", "dry_run"]


def test_an_unknown_parameter_is_refused_only_where_it_is_dangerous() -> None:
    given = {"stage": [b"enrich"], "x" * 1_000: [b"1"], "dryrun": [b"true"]}
    with pytest.raises(InvalidQuery) as refused:
        load_query(SelectionQuery(), given)
    assert [each.field for each in refused.value.details] == ["x" * 100 + "…", "dryrun"]
    assert {each.message for each in refused.value.details} == {"unknown parameter"}
    assert load_query(DeadLettersQuery(), given)["stage"] == "enrich"
    assert load_query(EventsQuery(), {"dryrun": [b"true"]})["limit"] == 50


def test_the_filters_of_the_list_are_those_of_a_bulk_request() -> None:
    listed = DeadLettersQuery().fields.keys() - {"limit", "offset"}
    for schema in (SelectionQuery(), RetryMany(), ResolveMany()):
        assert listed <= schema.fields.keys()
