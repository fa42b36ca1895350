"""The book and the perpetual of a simulated symbol: plausible, the same in every process, of bounded number."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from actors.lens.market.simulated import _pick, _venue, context_of, venue_of
from schemas._symbols import CATEGORY_OF
from schemas._vocabulary import AssetType
from tests.unit.lens.factories import NOW_MS


@pytest.mark.parametrize("asset_type", sorted(CATEGORY_OF))
@pytest.mark.parametrize("price", [1e-12, 0.5, 42_000.5, 1e12])
def test_a_perpetual_stands_near_its_price(asset_type: AssetType, price: float) -> None:
    context = context_of(venue_of(asset_type, "X", NOW_MS), price)
    assert context.mark_price is not None
    assert context.funding_rate is not None
    assert context.open_interest is not None
    assert abs(context.mark_price / price - 1) <= 0.001 + 1e-12
    assert abs(context.funding_rate) <= 0.0005
    assert context.open_interest > 0


def test_the_same_question_has_the_same_answer() -> None:
    first = venue_of("crypto", "BTC", NOW_MS)
    for cached in (_pick, _venue):
        cached.cache_clear()
    again = venue_of("crypto", "BTC", NOW_MS)
    assert again is not first
    assert (again.prices == first.prices).all()
    assert again.funding_rate == first.funding_rate


def test_another_process_gives_the_same_answer() -> None:
    code = f"from actors.lens.market.simulated import *; print(venue_of('crypto', 'BTC', {NOW_MS}).prices.sum().hex())"
    root, environment = Path(__file__).parents[3], {"PYTHONHASHSEED": "7"}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == venue_of("crypto", "BTC", NOW_MS).prices.sum().hex()


def test_symbols_and_times_have_books_of_their_own_and_spellings_share_one() -> None:
    assert venue_of("crypto", "BTC", NOW_MS) is venue_of("crypto", "BTC/USD", NOW_MS)
    assert len({id(venue_of("crypto", f"S{number}", NOW_MS)) for number in range(400)}) > 50
    assert len({id(venue_of("crypto", "BTC", NOW_MS + number * 900_000)) for number in range(20)}) > 5
