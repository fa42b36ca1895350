"""The ways to write a list in a query.

The kind: a filter in another library's spelling is ignored silently, and the client believes itself
filtered. Every list of every route is read by one function, so what holds here holds for all of them.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

import pytest

from config.ids import uuid7
from handlers._http.endpoint import endpoint_of, load_query
from schemas._queries import CommaList
from schemas.errors import InvalidQuery
from schemas.signals import AllSignalsQuery
from schemas.stream import StreamQuery
from server.routes import ROUTES

ONE, TWO = str(uuid7()), str(uuid7())


def loaded(query: str, schema: Any = None) -> Any:
    arguments = parse_qs(query, keep_blank_values=True)
    return load_query(
        schema or StreamQuery(), {name: [v.encode() for v in values] for name, values in arguments.items()}
    )


@pytest.mark.parametrize(
    "query",
    [
        "categories=crypto,forex",
        "categories=crypto&categories=forex",
        "categories[]=crypto&categories[]=forex",
        "categories%5B%5D=crypto&categories%5B%5D=forex",
        "categories[0]=crypto&categories[1]=forex",
        "categories[]=crypto,forex",
        "categories[1]=forex&categories[0]=crypto",
        "categories=crypto&categories[]=forex",
        "categories=crypto&categories[7]=&categories[8]= forex ",
    ],
)
def test_one_list_in_every_spelling(query: str) -> None:
    assert sorted(loaded(query)["categories"]) == ["crypto", "forex"]
    assert loaded(query, AllSignalsQuery()) == loaded("categories=crypto,forex", AllSignalsQuery())


def test_siblings_every_list_of_every_route() -> None:
    lists = 0
    for route in ROUTES:
        declared = endpoint_of(getattr(route.handler, route.method.lower()))
        for name, field in (declared.query.load_fields if declared is not None and declared.query else {}).items():
            if isinstance(field, CommaList):
                lists += 1
                value = ONE if "provider" in name else "crypto"
                assert declared is not None
                plain = loaded(f"{name}={value}", declared.query)
                assert loaded(f"{name}[]={value}", declared.query) == plain
                assert loaded(f"{name}[0]={value}", declared.query) == plain != loaded("", declared.query)
    assert lists >= 5


def test_errors_in_a_list_are_named_without_brackets() -> None:
    for query in ("categories[]=gold", "categories[0]=crypto&categories[1]=gold", "provider_ids[]=x"):
        with pytest.raises(InvalidQuery) as caught:
            loaded(query)
        assert [each.field for each in caught.value.details] == [query.partition("[")[0]]


def test_only_lists_have_brackets_and_only_numbers_stand_in_them() -> None:
    assert loaded("min_score[]=90&categories[x]=forex&categories[[0]]=forex&[]=1") == {}
    assert loaded(f"provider_ids[]={ONE}&provider_ids={TWO}")["provider_ids"] != []


def test_a_single_value_may_be_given_once_but_for_the_last_id() -> None:
    with pytest.raises(InvalidQuery):
        loaded("min_score=1&min_score=2")
    assert loaded("last_event_id=a&last_event_id=b&lastEventId=c&lastEventId=d") == {
        "last_event_id": "b",
        "last_event_id_of_polyfill": "d",
    }
