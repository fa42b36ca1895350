"""Test that the board of skill lists skill: simulated worlds, each with cheats of every kind (docs/records.md)."""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from statistics import mean

import pytest

from tests.simulation.people import CHEATS
from tests.simulation.world import SKILLED, Found, World, run

WORLDS = 20
SMALL = World(unskilled=150, skilled=10, cheats=1, accounts=20)


def all_found(world: World, worlds: int = WORLDS) -> list[Found]:
    """Return who is found in each of the worlds; they are independent, so each core takes its share."""
    with ProcessPoolExecutor(min(os.cpu_count() or 1, 4)) as processes:
        return list(processes.map(partial(run, world), range(worlds)))


def false_share(listed: Counter[str]) -> float:
    """Return the share of the listed that are not skilled."""
    return 1 - listed[SKILLED] / listed.total() if listed else 0.0


def test_skill_is_found_in_a_small_world_and_no_cheat() -> None:
    listed = run(SMALL, seed=1).listed
    assert listed[SKILLED] >= 7
    assert false_share(listed) <= 0.2
    assert not listed.keys() & CHEATS.keys()


def test_a_small_world_without_skill_has_an_empty_board() -> None:
    assert not run(replace(SMALL, skilled=0), seed=2).listed


@pytest.mark.slow
def test_skill_is_found_among_all_cheats() -> None:
    """The acceptance: of 20 skilled at least 14 are listed; 10 % of the listed are false, and half a cheat a world.

    The same worlds without their skilled have empty boards, nine of ten.
    """
    found = all_found(World())
    print("\n" + table(found, ["unskilled", "the best of many accounts", *CHEATS]))
    listed = [each.listed for each in found]
    assert mean(each[SKILLED] for each in listed) >= 14
    assert mean(map(false_share, listed)) <= 0.10
    assert mean(sum(each[kind] for kind in CHEATS) for each in listed) <= 0.5
    assert mean(not each.listed_without_skill for each in found) >= 0.90


@pytest.mark.slow
def test_nobody_gains_by_buying_at_the_quote_of_the_receipt() -> None:
    """What a quote of before the receipt is worth to whoever sees the market move first."""
    ages = (0.0, 0.5, 1.0, 2.0, 5.0)
    found = all_found(replace(SMALL, quote_ages=ages), worlds=4)
    kinds = [f"quotes of {age:g} s ago" for age in ages]
    print("\n" + table(found, kinds))
    assert mean(each.listed[kinds[0]] for each in found) <= 0.5


def table(found: list[Found], kinds: list[str]) -> str:
    """Return the averages as a table."""
    rows = []
    for kind in [SKILLED, *kinds]:
        counts = (mean(getattr(each, name)[kind] for each in found) for name in Found.__slots__)
        rows.append(f"| {kind} | {' | '.join(f'{count:.2f}' for count in counts)} |")
    empty = mean(not each.listed_without_skill for each in found)
    rows.append(f"| false share of the board | {mean(false_share(each.listed) for each in found):.1%} | – | – |")
    rows.append(f"| empty boards | {mean(not each.listed for each in found):.0%} | – | {empty:.0%} |")
    return "\n".join(["| of a kind | listed | eligible | listed without the skilled |", "|---|---|---|---|", *rows])
