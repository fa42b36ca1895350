"""Recompute a track record from what Postgres has: the published signals and the follower changes.

For operators, and for tests: the record that is kept signal by signal equals it to the last digit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from uuid import UUID

from actors.providers.projection import Projection
from actors.providers.record import figures_of, followed, with_given_level
from db._postgres import Connection
from db.providers import follows, outcomes, records
from db.providers.follows import FollowerChange
from db.providers.outcomes import OutcomeRow
from db.providers.records import LoggedSignal, RecordRow


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A recomputed record, and its differences from the stored one: empty when that is right."""

    record: RecordRow
    outcomes: Sequence[OutcomeRow]
    differences: Sequence[str]


async def rebuild(conn: Connection, provider_id: UUID) -> Rebuilt:
    """Compare a provider's record, up to the newest signal in it, with its recomputation.

    For a transaction that sees one moment. Raises KeyError for an unknown provider.
    """
    stored = (await records.load_records(conn, [provider_id]))[provider_id]
    log = await records.read_log_of(conn, provider_id, stored.applied_seq)
    changes = await follows.load_changes(conn, provider_id)
    empty = RecordRow(provider_id, stored.is_system, eligible_since=stored.eligible_since)
    record, positions = replay(empty, log, changes)
    record = with_given_level(record, stored)
    found = await records.load_figures(conn, provider_id)
    differences = [
        f"{each.name}: {getattr(stored, each.name)}, not {getattr(record, each.name)}"
        for each in fields(record)
        if getattr(stored, each.name) != getattr(record, each.name)
    ]
    if found is not None and found != figures_of(record):
        differences.append(f"figures: {found}, not {figures_of(record)}")
    if await outcomes.load_outcomes(conn, provider_id) != positions:
        differences.append("outcomes")
    following = await follows.count_followers(conn, provider_id)
    if following != stored.follower_count:
        differences.append(f"followers: {stored.follower_count}, not {following}")
    return Rebuilt(record, positions, differences)


async def repair(conn: Connection, rebuilt: Rebuilt) -> None:
    """Store a recomputed record; for a transaction of the provider's owner."""
    await outcomes.delete_outcomes(conn, rebuilt.record.provider_id)
    if rebuilt.outcomes:
        await outcomes.insert_outcomes(conn, rebuilt.outcomes)
    await records.upsert_records(conn, [(rebuilt.record, figures_of(rebuilt.record))])


def replay(
    empty: RecordRow, log: Iterable[LoggedSignal], changes: Iterable[FollowerChange]
) -> tuple[RecordRow, Sequence[OutcomeRow]]:
    """Return the record after signals and follower changes, each where it happened, and its positions."""
    provider_id = empty.provider_id
    projection = Projection({provider_id: empty}, (), {}, {})
    waiting = list(changes)[::-1]

    def follow_until(feed_seq: int | None) -> None:
        while waiting and (feed_seq is None or waiting[-1].feed_seq < feed_seq):
            change = waiting.pop()
            record = projection.records.get(provider_id, empty)
            projection.records[provider_id] = followed(record, change.delta, change.at)

    for signal in log:
        follow_until(signal.feed_seq)
        projection.take(signal)
    follow_until(None)
    return projection.records.get(provider_id, empty), projection.opened
