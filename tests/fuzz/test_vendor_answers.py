"""Whatever stands in a market-data vendor's answer, a price comes of it that is plausible, none, or a failure."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.lens.market import _batch
from actors.lens.market._http import CallFailed, JsonApi
from actors.lens.market._venue import GuardedVenue
from actors.lens.market.quotes import Bar, checked_bars
from actors.lens.quote import VenueQuote
from tests.integration.market_vendors import CASES, MINUTE, Case

LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 63), (1 << 64) - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.sampled_from(["0", "-1", "NaN", "Infinity", "1e400", "0.5", "1e-30", "2026-13-01T00:00:00Z", "[]", '["1"]']),
)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner))


def places_of(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of each value in a document."""
    found = [path]
    items = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for key, value in items:
        found += places_of(value, (*path, key))
    return found


def changed(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Return a copy of a document with another value at a place."""
    if not path:
        return value
    document = copy.deepcopy(document)
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return document


async def asked(case: Case, answers: dict[str, Any], question: Callable[[GuardedVenue], Awaitable[Any]]) -> Any:
    """Return what the vendor's answers amount to."""

    async def answer(api: JsonApi, _: str, url: str, parse: Callable[[bytes], Any], **__: Any) -> Any:
        path = url.removeprefix(api._url)
        if path not in answers:
            raise CallFailed("PROVIDER_ERROR", "not found", status=404)
        try:
            return parse(orjson.dumps(answers[path]))
        except (ValueError, RecursionError) as error:
            raise CallFailed("PROVIDER_ERROR", str(error)) from error

    patch = pytest.MonkeyPatch()
    patch.setattr(JsonApi, "_ask", answer)
    patch.setattr(_batch, "_GATHER_SECONDS", 0.0)
    venue = case.venue("http://vendor")
    try:
        return await question(venue)
    except CallFailed as failure:
        return failure
    finally:
        patch.undo()
        await venue.close()


def check(case: Case, result: Any) -> None:
    """Check that a result is plausible."""
    if isinstance(result, VenueQuote):
        again = VenueQuote.checked(case.instrument.asset_type, result.bid, result.ask, result.at, result.source)
        assert again == result
    elif isinstance(result, tuple):
        assert checked_bars(case.instrument.asset_type, cast(Sequence[Bar], result)) == result
    elif isinstance(result, CallFailed):
        assert "the call failed (" not in result.message, "a bug of ours"
    else:
        assert result in ("yes", "no", "void", None)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_answer_is_a_plausible_price_or_a_failure(case: Case, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(sorted(case.answers)))
    document = case.answers[path]
    place = data.draw(st.sampled_from(places_of(document)))
    answers = case.answers | {path: changed(document, place, data.draw(VALUES))}

    async def run() -> None:
        check(case, await asked(case, answers, lambda venue: venue.quote(case.instrument)))
        check(case, await asked(case, answers, lambda venue: venue.minutes(case.instrument, MINUTE)))
        check(case, await asked(case, answers, lambda venue: venue.resolution(case.instrument)))

    asyncio.run(run())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_the_answers_are_good_before_they_are_changed(case: Case) -> None:
    assert isinstance(await asked(case, case.answers, lambda venue: venue.quote(case.instrument)), VenueQuote)
    assert await asked(case, case.answers, lambda venue: venue.minutes(case.instrument, MINUTE))
