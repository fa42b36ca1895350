"""Decide which actors share a process, from the kinds of actor and the setting ACTOR_PLACEMENT that groups them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from actors._runtime.ref import MailboxLimits
from config.settings import ConfigurationError

TOGETHER = "lens=lens/intake+lens/enrich+lens/evaluate+lens/publish core=providers+users+leaderboards+ingest+ledger@1"
"""The groups that `together` stands for: a process for each lane of the pipeline, and one for all else."""


@dataclass(frozen=True, slots=True)
class ActorSpec:
    """Describe a kind of actor: its name, its Behaviour, its number of shards, and its bounds."""

    kind: str
    behaviour: str  # "actors.lens.intake:Intake"
    shards: int = 1
    pool_size: int = 4  # Postgres connections, at least 2 (a take-over may need two): concurrent batches
    limits: MailboxLimits = field(default_factory=MailboxLimits)

    def name_of(self, shard: int) -> str:
        """Return the name of one actor: the kind, and the shard where there are several."""
        return self.kind if self.shards == 1 else f"{self.kind}/{shard}"

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of all actors of the kind."""
        return tuple(map(self.name_of, range(self.shards)))


Members = tuple[tuple[ActorSpec, int], ...]  # each with its shard


@dataclass(frozen=True, slots=True)
class ActorProcess:
    """List the actors that share one process."""

    title: str  # for `ps` and the dashboard: LensIntake, or the group's name, numbered if it has several processes
    actors: Members

    @property
    def name(self) -> str:
        """Return the name in Ray, which shows every actor in the process."""
        return "+".join(self.actor_names)

    @property
    def actor_names(self) -> tuple[str, ...]:
        """Return the names of its actors."""
        return tuple(spec.name_of(shard) for spec, shard in self.actors)

    @property
    def pool_size(self) -> int:
        """Return the number of Postgres connections: actors that share a process rarely need all of theirs at once."""
        largest = max(spec.pool_size for spec, _ in self.actors)
        return largest + 2 * (len(self.actors) - 1)


def place(specs: Sequence[ActorSpec], placement: str) -> tuple[ActorProcess, ...]:
    """Divide the actors of all `specs` over processes.

    `placement`: groups, separated by blanks, of the form `name=kind+kind@processes`. Shard k of a kind runs in its
    group's process k modulo their number; without `@` that is the largest number of shards. Instead of a kind one of
    its shards may be named, as in `users/1`. An actor in no group has a process of its own. `together` stands for
    TOGETHER, `spread` for no group at all.

    Raises ConfigurationError.
    """
    named = {spec.kind: [(spec, shard) for shard in range(spec.shards)] for spec in specs}
    named |= {spec.name_of(shard): [(spec, shard)] for spec in specs for shard in range(spec.shards)}
    groups = TOGETHER if placement == "together" else "" if placement == "spread" else placement
    processes: list[ActorProcess] = []
    placed: set[str] = set()
    for group in groups.split():
        title, words, count = _parse(group)
        if placement == "together":  # tests and tools run a part of the system
            words = [word for word in words if word in named]
        if unknown := [word for word in words if word not in named]:
            raise _error(f"{unknown[0]!r} is no kind of actor; there are {', '.join(sorted({s.kind for s in specs}))}")
        members = [each for word in words for each in named[word]]
        for spec, shard in members:
            if (name := spec.name_of(shard)) in placed:
                raise _error(f"{name!r} is in two groups")
            placed.add(name)
        count = count or max((len(named[word]) for word in words), default=0)
        divided = [tuple(each for each in members if each[1] % count == number) for number in range(count)]
        for number, chosen in enumerate(divided):
            if chosen:
                processes.append(ActorProcess(_title(f"{title}{number}" if count > 1 else title, chosen), chosen))
    for spec in specs:
        alone = [(spec, shard) for shard in range(spec.shards) if spec.name_of(shard) not in placed]
        processes += [ActorProcess(_title("", (each,)), (each,)) for each in alone]
    return tuple(processes)


def _parse(group: str) -> tuple[str, list[str], int]:
    title, equals, rest = group.partition("=")
    kinds, at, count = rest.partition("@")
    if not equals or not title.isalnum() or not all(kinds.split("+")) or (at and not count.isdecimal()) or count == "0":
        raise _error(f"{group!r} is not of the form name=kind+kind or name=kind+kind@processes")
    return title, kinds.split("+"), int(count or 0)


def _title(group: str, members: Members) -> str:
    return _camel(group if len(members) > 1 else members[0][0].kind)


def _camel(text: str) -> str:
    return "".join(word[:1].upper() + word[1:] for word in text.replace("/", " ").replace("_", " ").split())


def _error(reason: str) -> ConfigurationError:
    return ConfigurationError([f"ACTOR_PLACEMENT: {reason}"])
