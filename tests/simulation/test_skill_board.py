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
from tests.simulation.world import World, run

WORLDS = 20
SMALL = World(unskilled=150, skilled=10, cheats=1, accounts=20)


def listed_in(world: World, seed: int) -> Counter[str]:
    """Return who is listed in a world, by kind."""
    return run(world, seed)[0]


def all_listed(world: World) -> list[Counter[str]]:
    """Return who is listed in each of the worlds; they are independent, so each core takes its share."""
    with ProcessPoolExecutor(min(os.cpu_count() or 1, 4)) as processes:
        return list(processes.map(partial(listed_in, world), range(WORLDS)))


def false_share(listed: Counter[str]) -> float:
    """Return the share of the listed that are not skilled."""
    return 1 - listed["skilled"] / listed.total() if listed else 0.0


def test_skill_is_found_in_a_small_world_and_no_cheat() -> None:
    listed = listed_in(SMALL, seed=1)
    assert listed["skilled"] >= 7
    assert false_share(listed) <= 0.2
    assert not listed.keys() & CHEATS.keys()


def test_a_small_world_without_skill_has_an_empty_board() -> None:
    assert not listed_in(replace(SMALL, skilled=0), seed=2)


@pytest.mark.slow
def test_skill_is_found_among_all_cheats() -> None:
    """The acceptance: of 20 skilled at least 14 are listed; 10 % of the listed are false, and half a cheat a world."""
    found = all_listed(World())
    print("\n" + table(found))
    assert mean(each["skilled"] for each in found) >= 14
    assert mean(map(false_share, found)) <= 0.10
    assert mean(sum(each[kind] for kind in CHEATS) for each in found) <= 0.5


@pytest.mark.slow
def test_a_world_without_skill_has_an_empty_board() -> None:
    found = all_listed(World(skilled=0))
    print("\n" + table(found))
    assert mean(not each for each in found) >= 0.90


def table(found: list[Counter[str]]) -> str:
    """Return the averages as a table."""
    kinds = ["skilled", "unskilled", "the best of many accounts", *CHEATS]
    rows = [f"| {kind} | {mean(each[kind] for each in found):.2f} |" for kind in kinds]
    return "\n".join(["| listed, on average | |", "|---|---|", *rows])
