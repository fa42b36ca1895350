"""Placement: every actor runs once, whatever the groups, and impossible groups are refused with a reason."""

from __future__ import annotations

import pytest

from actors._runtime.placement import ActorProcess, ActorSpec, place
from actors._runtime.registry import SPECS, specs_of
from config.settings import ConfigurationError, Settings

PAIR = (ActorSpec("a/one", "x:A", shards=3), ActorSpec("a/two", "x:B", shards=3), ActorSpec("b", "x:C"))


def names(processes: tuple[ActorProcess, ...]) -> list[str]:
    """The names of the processes in Ray."""
    return [process.name for process in processes]


def test_placement_together_has_a_process_for_the_pipeline_and_one_for_all_else() -> None:
    assert names(place(SPECS, "together")) == [
        "lens/intake+lens/enrich+lens/evaluate+lens/publish",
        "providers/0+providers/1+users/0+users/1+leaderboards+ingest+ledger",
    ]
    assert [process.title for process in place(SPECS, "together")] == ["Lens", "Core"]


def test_placement_spread_gives_each_actor_a_process_of_its_own() -> None:
    processes = place(SPECS, "spread")
    assert all(len(process.actors) == 1 for process in processes)
    assert len(processes) == sum(spec.shards for spec in SPECS)
    assert processes[0].title == "LensIntake"


@pytest.mark.parametrize("placement", ["together", "spread", "p=providers+users", "p=providers@1 l=lens/intake+ingest"])
def test_placement_runs_every_actor_exactly_once(placement: str) -> None:
    placed = [name for process in place(SPECS, placement) for name in process.actor_names]
    assert sorted(placed) == sorted(spec.name_of(shard) for spec in SPECS for shard in range(spec.shards))


def test_placement_puts_shards_of_one_number_together() -> None:
    assert names(place(PAIR, "lane=a/one+a/two")) == ["a/one/0+a/two/0", "a/one/1+a/two/1", "a/one/2+a/two/2", "b"]
    assert names(place(PAIR, "lane=a/one+a/two@2")) == ["a/one/0+a/one/2+a/two/0+a/two/2", "a/one/1+a/two/1", "b"]


def test_placement_may_name_one_shard() -> None:
    assert names(place(PAIR, "hot=a/one/1+a/two/1 rest=b+a/one/0")) == [
        "a/one/1+a/two/1",
        "b+a/one/0",
        "a/one/2",
        "a/two/0",
        "a/two/2",
    ]


def test_placement_together_gives_each_lane_of_the_pipeline_a_process() -> None:
    processes = place(specs_of(Settings.load(env_file=None).replace(lens_shards=2)), "together")
    assert names(processes)[:2] == [
        "lens/intake/0+lens/enrich/0+lens/evaluate/0+lens/publish/0",
        "lens/intake/1+lens/enrich/1+lens/evaluate/1+lens/publish/1",
    ]
    assert [process.title for process in processes] == ["Lens0", "Lens1", "Core"]


def test_placement_gives_a_shared_process_fewer_connections_than_its_actors_have_alone() -> None:
    [lane, *_] = place(PAIR, "lane=a/one+a/two@1")
    assert (lane.pool_size, PAIR[0].pool_size) == (14, 4)


@pytest.mark.parametrize(
    ("placement", "reason"),
    [
        ("providers", "form"),
        ("p=", "form"),
        ("p=providers@0", "form"),
        ("p=providers@x", "form"),
        ("a b=providers", "form"),
        ("p=prviders", "no kind of actor; there are ingest"),
        ("p=users q=users", "two groups"),
        ("p=users+users", "two groups"),
        ("p=users q=users/1", "two groups"),
        ("p=users/2", "no kind of actor"),
    ],
)
def test_placement_that_cannot_be_is_refused_by_the_settings_name(placement: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason) as raised:
        place(SPECS, placement)
    assert raised.value.problems[0].startswith("ACTOR_PLACEMENT: ")
