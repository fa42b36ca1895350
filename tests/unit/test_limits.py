"""Rate limits counted in this process's memory while Redis is unavailable: the same rules, bounded."""

from __future__ import annotations

from handlers._http.limits import LimitVerdict, LocalCounters, Rule, _Check


def fixed(key: str = "k", limit: int = 3) -> _Check:
    return _Check(key, limit, 60, sliding=False)


def sliding(limit: int = 3) -> _Check:
    return _Check("k", limit, 60, sliding=True)


def test_a_fixed_window_ends_as_a_whole() -> None:
    counters = LocalCounters()
    assert [counters.count(fixed(), now).allowed for now in (0, 30, 59, 59.5)] == [True, True, True, False]
    assert counters.count(fixed(), 59.9) == LimitVerdict(False, 3, 4, 1)
    after = counters.count(fixed(), 60)
    assert (after.allowed, after.used, after.reset_seconds) == (True, 1, 60)


def test_a_sliding_window_lets_in_one_for_each_that_leaves_it() -> None:
    counters = LocalCounters()
    assert [counters.count(sliding(), now).allowed for now in (0, 30, 59, 59.5)] == [True, True, True, False]
    assert [counters.count(sliding(), now).allowed for now in (60, 61, 89.9, 90)] == [True, False, False, True]


def test_refused_requests_do_not_prolong_a_sliding_window() -> None:
    counters = LocalCounters()
    for now in range(60):
        counters.count(sliding(), now)
    assert counters.count(sliding(), 60).allowed


def test_keys_count_for_themselves() -> None:
    counters = LocalCounters()
    for _ in range(3):
        counters.count(fixed("a"), 0)
    assert not counters.count(fixed("a"), 1).allowed
    assert counters.count(fixed("b"), 1).allowed


def test_the_memory_is_bounded_and_the_longest_silent_key_goes_first() -> None:
    counters = LocalCounters(capacity=2)
    for key in ("a", "b", "a", "a", "c"):
        counters.count(fixed(key), 0)
    assert not counters.count(fixed("a"), 1).allowed
    assert counters.count(fixed("b"), 1).used == 1
    assert len(counters._times) == 2


def test_a_verdict_says_what_remains() -> None:
    assert LimitVerdict(True, 120, 60, 1).remaining == 60
    assert LimitVerdict(False, 3, 9, 1).remaining == 0


def test_a_rule_with_another_number_announces_from_the_same_share_on() -> None:
    assert Rule(120, sliding=True, announce_from=60).of(10) == Rule(10, sliding=True, announce_from=5)
    assert Rule().of(7) == Rule(7)
