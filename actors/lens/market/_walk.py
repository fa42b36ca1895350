"""Compute a Brownian path by the clock: a function of a seed and the time alone, so the same in every process.

Lévy's construction: the path is known at the borders of blocks of eight years; halfway between two known points it is
their mean and a deviation that a hash gives, down to a second. A point costs one hash a level, and no point needs
another's. The unit of the path is the standard deviation of a minute's change.

Within a minute the path stays between a low and a high that are drawn as those of a Brownian bridge: so the candles of
minutes are known without their seconds, and longer ones are made of them.
"""

from __future__ import annotations

import functools
import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Words = NDArray[np.uint64]

_LEVELS: Final = 22  # from minutes up to a block: 2^22 minutes are eight years
_BLOCK: Final = 1 << _LEVELS
_SECOND_LEVELS: Final = 6  # from a minute down: the path is straight within a 64th of it
_WORD: Final = (1 << 64) - 1
_GOLDEN: Final = 0x9E3779B97F4A7C15
_LEVEL_STEP: Final = 0xD1B54A32D192ED03
_MIX_1: Final = 0xBF58476D1CE4E5B9
_MIX_2: Final = 0x94D049BB133111EB
_HIGH, _LOW, _BLOCKS, _OTHER = -1, -2, -3, -4  # levels of what is no midpoint
_MEAN: Final = 4 * 32767.5
_DEVIATION: Final = 2 * math.sqrt((65536**2 - 1) / 12)  # of the sum of four uniform numbers of 16 bits
_QUANTILES: Final = 4096
# An exponential variable by its quantile: a table, as a logarithm differs in its last digit from library to library.
_EXPONENTIAL: Final[Array] = -np.log((np.arange(_QUANTILES) + 0.5) / _QUANTILES)
_EXPONENTIAL_OF: Final = tuple(_EXPONENTIAL.tolist())
_SCALES: Final = tuple(math.sqrt(2.0**below) / 2 for below in range(_LEVELS, -_SECOND_LEVELS, -1))
"""By level: the deviation halfway between two points that are 2^below minutes apart."""
_CACHED: Final = 1 << 15


def minutes(seed: int, first: int, count: int) -> Array:
    """Return the path's open, high, low and close in `count` minutes from the Unix minute `first` on: shape (4, count).

    The close of a minute is the open of the next.
    """
    path = _points(seed, first, first + count)
    opened, closed = path[:-1], path[1:]
    index = np.arange(first, first + count)
    middle, move = (opened + closed) / 2, (closed - opened) ** 2
    up, down = (_EXPONENTIAL[_words(seed, level, index) >> np.uint64(52)] for level in (_HIGH, _LOW))
    return np.stack((opened, middle + np.sqrt(move + 2 * up) / 2, middle - np.sqrt(move + 2 * down) / 2, closed))


def at(seed: int, seconds: float) -> float:
    """Return the path at a Unix time; at a full minute, its open."""
    minute = math.floor(seconds / 60)
    left, right = _point(seed, minute), _point(seed, minute + 1)
    opened, closed = left, right
    part = seconds / 60 - minute
    index = minute
    for level in range(_LEVELS, _LEVELS + _SECOND_LEVELS):
        middle = (left + right) / 2 + _SCALES[level] * _normal(_word(seed, level, index))
        index *= 2
        part *= 2
        if part >= 1:
            left, part, index = middle, part - 1, index + 1
        else:
            right = middle
    value = left + (right - left) * part
    middle, move = (opened + closed) / 2, (closed - opened) ** 2
    up, down = (_EXPONENTIAL_OF[_word(seed, level, minute) >> 52] for level in (_HIGH, _LOW))
    return min(max(value, middle - math.sqrt(move + 2 * down) / 2), middle + math.sqrt(move + 2 * up) / 2)


def normals(seed: int, series: int, first: int, count: int) -> Array:
    """Return nearly normal variables, from the one of index `first` on, that have nothing to do with the path."""
    return _normals(_words(seed, _OTHER - series, np.arange(first, first + count)))


def _points(seed: int, first: int, last: int) -> Array:
    """Return the path at each full minute from `first` to `last`, both included."""
    stride = (last - first).bit_length()
    start = first >> stride
    path = np.array([_point(seed, index << stride) for index in range(start, -(-last >> stride) + 1)])
    for level in range(_LEVELS - stride, _LEVELS):
        finer = np.empty(2 * path.size - 1)
        finer[::2] = path
        index = np.arange(start, start + path.size - 1)
        finer[1::2] = (path[:-1] + path[1:]) / 2 + _SCALES[level] * _normals(_words(seed, level, index))
        finer_stride = _LEVELS - level - 1
        low, high = first >> finer_stride, -(-last >> finer_stride)
        path = finer[low - 2 * start : high - 2 * start + 1]
        start = low
    return path


@functools.lru_cache(maxsize=_CACHED)
def _point(seed: int, minute: int) -> float:
    """Return the path at a full minute, by the same steps as `_points`, so to the last digit."""
    block = minute >> _LEVELS
    left, right = _border(seed, block), _border(seed, block + 1)
    for level in range(_LEVELS):
        below = _LEVELS - level
        if not minute & ((1 << below) - 1):
            break  # no finer level moves this point
        middle = (left + right) / 2 + _SCALES[level] * _normal(_word(seed, level, minute >> below))
        if (minute >> (below - 1)) & 1:
            left = middle
        else:
            right = middle
    return left


@functools.lru_cache(maxsize=_CACHED)
def _border(seed: int, block: int) -> float:
    """Return the path at the beginning of a block, from 0 in 1970."""
    return math.sqrt(_BLOCK) * math.fsum(_normal(_word(seed, _BLOCKS, each)) for each in range(block))


def _word(seed: int, level: int, index: int) -> int:
    """Return 64 random bits: SplitMix64's finaliser (Steele, Lea and Flood, 2014) of a counter."""
    word = (seed + level * _LEVEL_STEP + index * _GOLDEN) & _WORD
    word = ((word ^ (word >> 30)) * _MIX_1) & _WORD
    word = ((word ^ (word >> 27)) * _MIX_2) & _WORD
    return word ^ (word >> 31)


def _words(seed: int, level: int, index: NDArray[np.int64]) -> Words:
    """Return the same of many indices."""
    word = index.astype(np.uint64) * np.uint64(_GOLDEN) + np.uint64((seed + level * _LEVEL_STEP) & _WORD)
    word = (word ^ (word >> np.uint64(30))) * np.uint64(_MIX_1)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(_MIX_2)
    return word ^ (word >> np.uint64(31))


def _normal(word: int) -> float:
    """Return a nearly normal variable of mean 0 and deviation 1: the sum of the word's four parts."""
    total = (word & 0xFFFF) + ((word >> 16) & 0xFFFF) + ((word >> 32) & 0xFFFF) + (word >> 48)
    return (total - _MEAN) / _DEVIATION


def _normals(words: Words) -> Array:
    part = np.uint64(0xFFFF)
    total = np.zeros(words.shape)
    for shift in (0, 16, 32, 48):
        total += (words >> np.uint64(shift)) & part
    return (total - _MEAN) / _DEVIATION
