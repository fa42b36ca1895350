"""The filters of the feed, and the commands of the Lens socket."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers._http.endpoint import load_query
from handlers.streams.frames import text_frame
from schemas._vocabulary import ASSET_CATEGORIES, ASSET_TYPES
from schemas.errors import InvalidQuery
from schemas.stream import MAX_PROVIDERS, SignalFilter, StreamQuery

A = "01900000-0000-7000-8000-00000000a11c"
B = "01900000-0000-7000-8000-000000000b0b"


@dataclass
class Some:
    """A signal."""

    asset_category: str = "crypto"
    asset_type: str = "crypto"
    score: int = 50
    provider_id: str = A


def wanted(**query: str) -> SignalFilter:
    return SignalFilter.of(load_query(StreamQuery(), {name: [value.encode()] for name, value in query.items()}))


def test_filters_that_mean_the_same_are_the_same() -> None:
    one = wanted(categories="crypto,equities", provider_ids=f"{A},{B}", min_score="5")
    other = wanted(categories=" equities, crypto,,crypto", provider_ids=f"{B.upper()},{A}", min_score="05")
    assert one == other
    assert len({one, other}) == 1
    assert wanted(categories="", asset_types=",", provider_ids=" ") == wanted() == SignalFilter()
    assert wanted(min_score="0") != wanted()


def test_the_empty_filter_wants_everything() -> None:
    assert SignalFilter().predicate()(Some(score=0))
    assert SignalFilter().to_document() == {}


def test_every_given_field_must_match() -> None:
    matches = wanted(categories="equities", asset_types="option,etf", min_score="60", provider_ids=A).predicate()
    good = Some("equities", "option", 60, A)
    assert matches(good)
    for field, value in [("asset_category", "crypto"), ("asset_type", "stock"), ("score", 59), ("provider_id", B)]:
        assert not matches(Some(**{**vars(good), field: value}))


@given(
    st.builds(
        SignalFilter,
        categories=st.none() | st.sets(st.sampled_from(ASSET_CATEGORIES), min_size=1).map(lambda s: tuple(sorted(s))),
        asset_types=st.none() | st.sets(st.sampled_from(ASSET_TYPES), min_size=1).map(lambda s: tuple(sorted(s))),
        min_score=st.none() | st.integers(0, 100),
        provider_ids=st.none() | st.sets(st.uuids(), min_size=1, max_size=3).map(lambda s: tuple(sorted(map(str, s)))),
    )
)
def test_a_filter_survives_being_remembered(filters: SignalFilter) -> None:
    assert SignalFilter.from_document(orjson.loads(orjson.dumps(filters.to_document()))) == filters


@pytest.mark.parametrize("provider_ids", ["x", A[:-1], A + ",", f"{{{A}}}"])
def test_only_canonical_uuids_name_providers(provider_ids: str) -> None:
    if provider_ids == A + ",":
        assert wanted(provider_ids=provider_ids).provider_ids == (A,)
        return
    with pytest.raises(InvalidQuery) as refused:
        wanted(provider_ids=provider_ids)
    assert refused.value.details[0].field == "provider_ids"


def test_the_number_of_providers_is_bounded() -> None:
    ids = ",".join(str(UUID(int=number)) for number in range(MAX_PROVIDERS + 1))
    with pytest.raises(InvalidQuery, match="query"):
        wanted(provider_ids=ids)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 100_000])
def test_a_text_frame_announces_its_length_in_the_shortest_form(size: int) -> None:
    frame = text_frame(b"x" * size)
    head = 2 if size < 126 else 4 if size < 65536 else 10
    assert (frame[0], len(frame)) == (0x81, head + size)
    announced = frame[1] if size < 126 else int.from_bytes(frame[2:head])
    assert announced == size
    assert frame[1] == {2: size, 4: 126, 10: 127}[head]
