"""Test the path that the simulated market moves along: the same for all who look, and as random as it says."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.lens.market import _walk

NOW = 29_990_000  # a minute of 2027
SEEDS = st.integers(0, (1 << 64) - 1)
MINUTES = st.integers(20_000_000, 60_000_000)


@settings(deadline=None)
@given(SEEDS, MINUTES, st.integers(1, 300))
def test_a_run_of_minutes_is_the_same_as_its_points(seed: int, first: int, count: int) -> None:
    opened, high, low, closed = _walk.minutes(seed, first, count)
    assert opened.shape == (count,)
    assert opened[0] == _walk.at(seed, first * 60)
    assert opened[-1] == _walk.at(seed, (first + count - 1) * 60)
    assert closed[-1] == _walk.at(seed, (first + count) * 60)
    assert (opened[1:] == closed[:-1]).all()
    assert (high >= np.maximum(opened, closed)).all()
    assert (low <= np.minimum(opened, closed)).all()


@settings(deadline=None)
@given(SEEDS, MINUTES, st.integers(1, 200), st.integers(1, 200))
def test_a_minute_is_the_same_in_whatever_run_it_is_asked_for(seed: int, first: int, before: int, after: int) -> None:
    one = _walk.minutes(seed, first, 1)
    many = _walk.minutes(seed, first - before, before + after + 1)
    assert (many[:, before] == one[:, 0]).all()


@settings(deadline=None)
@given(SEEDS, MINUTES, st.floats(0, 60))
def test_the_path_within_a_minute_stays_between_its_low_and_high(seed: int, minute: int, seconds: float) -> None:
    _, high, low, _ = _walk.minutes(seed, minute, 1)[:, 0]
    now = minute * 60 + seconds
    if now < (minute + 1) * 60:
        assert low <= _walk.at(seed, now) <= high


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.integers(1, 12))
def test_the_path_goes_on_over_the_border_of_a_block(seed: int, block: int) -> None:
    border = block << _walk._LEVELS
    opened, _, _, closed = _walk.minutes(seed, border - 3, 6)
    assert opened[3] == _walk.at(seed, border * 60)
    assert (opened[1:] == closed[:-1]).all()
    assert np.abs(closed - opened).max() < 10


def test_changes_have_the_deviation_of_their_time_and_no_memory() -> None:
    path = _walk.minutes(7, NOW, 60_000)
    steps = path[3] - path[0]
    assert abs(steps.std() - 1) < 0.02
    assert abs(steps.mean()) < 0.02
    assert abs(np.corrcoef(steps[1:], steps[:-1])[0, 1]) < 0.02
    hours = steps.reshape(-1, 60).sum(axis=1)
    assert abs(hours.std() / np.sqrt(60) - 1) < 0.08
    assert abs(np.corrcoef(hours[1:], hours[:-1])[0, 1]) < 0.1
    # E[max] of a Brownian motion over a minute is √(2/π).
    assert abs((path[1] - path[0]).mean() - np.sqrt(2 / np.pi)) < 0.02
    assert abs((path[0] - path[2]).mean() - np.sqrt(2 / np.pi)) < 0.02


def test_seconds_move_as_minutes_do() -> None:
    knots = [_walk.at(7, 60 * NOW + 60 / 64 * step) for step in range(64 * 200 + 1)]
    steps = np.diff(knots)
    assert 0.85 < steps.std() * 8 < 1.0  # a little less, for the bounds of the minute
    assert abs(np.corrcoef(steps[1:], steps[:-1])[0, 1]) < 0.05


def test_seeds_have_nothing_to_do_with_each_other() -> None:
    paths = np.array([_walk.minutes(seed, NOW, 5000) for seed in range(30)])
    steps = paths[:, 3] - paths[:, 0]
    correlations = np.corrcoef(steps)[~np.eye(30, dtype=bool)]
    assert np.abs(correlations).max() < 0.08


def test_another_process_goes_the_same_way() -> None:
    code = (
        "from actors.lens.market import _walk as w; "
        "print(float(w.minutes(5, 29_990_000, 500).sum()).hex(), w.at(5, 1.8e9).hex())"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[3],
        env={"PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.split() == [float(_walk.minutes(5, NOW, 500).sum()).hex(), _walk.at(5, 1.8e9).hex()]


def test_a_point_costs_microseconds() -> None:
    """The bound is ten times what an idle core takes."""
    started = time.process_time()
    for step in range(2000):
        _walk.at(11, 1.8e9 + 60 * step)
    assert (time.process_time() - started) / 2000 < 500e-6
