"""Who moves with whom: against numpy's own correlation, pair by pair, over days that are missing here and there."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from actors.records import companions as rules
from actors.records.companions import Days, companions


def test_pairs_that_move_together_are_found_in_blocks_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "_BLOCK", 4)
    chance = np.random.default_rng(1)
    market = chance.normal(0, 0.01, 90)
    days = {
        who: market * chance.choice([-1, 0, 1]) + chance.normal(0, 0.002, 90) + 0.001 * (who % 3) for who in range(11)
    }
    ages = {who: [age for age in range(90) if chance.random() < 0.8] for who in days}
    ages[10] = ages[10][:29]  # too few
    found = companions(Days((who, age, days[who][age]) for who in days for age in ages[who]))
    expected = {}
    for one, other in itertools.permutations(range(10), 2):
        shared = sorted({*ages[one]} & {*ages[other]})
        value = float(np.corrcoef(days[one][shared], days[other][shared])[0, 1])
        if abs(value) > 0.9:
            expected[one, other] = value
    assert len(expected) > 4
    assert {(one, other): pytest.approx(value) for one, other, value in found} == expected


def test_days_that_are_all_alike_move_with_nobody_and_of_many_companions_the_closest_are_kept() -> None:
    flat = [(who, age, 0.01) for who in "ab" for age in range(90)]
    assert companions(Days(flat)) == []
    clique = [(who, age, float(np.sin(age) + who * 1e-6 * np.cos(3 * age))) for who in range(30) for age in range(90)]
    found = companions(Days(clique))
    assert len(found) == 30 * rules.MOST_SHOWN
