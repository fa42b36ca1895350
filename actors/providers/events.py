"""Send domain events about committed changes: absolute facts, so that the next event makes up for a lost one.

Sent without acknowledgement, and may be lost: a receiver that needs every one reads provider_stats and
following_counts, which hold the truth, from time to time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from actors._runtime.context import ActorContext
from actors.leaderboards.messages import LEADERBOARDS, RankRecords
from actors.users._events import notify_progress
from actors.users.messages import FirstFollow, ProviderFacts
from db.leaderboards import BoardRecord
from db.providers.records import RecordRow


@dataclass(frozen=True, slots=True)
class RecordChange:
    """A changed record; `before` is None for a person who has just become a provider."""

    before: RecordRow | None
    after: RecordRow


def notify(
    context: ActorContext, changes: Iterable[RecordChange], first_follows: Mapping[UUID, datetime], at: datetime
) -> None:
    """Send every record to the boards, and facts and first follows to the users' owners."""
    changes = list(changes)
    if changes:
        as_of = max(each.after.applied_seq for each in changes)
        context.ref(LEADERBOARDS, "").tell("", RankRecords(tuple(_board_record(each.after) for each in changes), as_of))
    notify_progress(context, ((each.after.provider_id, _facts(each.after, at)) for each in changes if is_event(each)))
    notify_progress(context, ((follower_id, FirstFollow(since)) for follower_id, since in first_follows.items()))


def is_event(change: RecordChange) -> bool:
    """Return whether a person has progressed in anything that achievements and referrals count."""
    before, after = change.before, change.after
    if after.is_system:
        return False
    return before is None or _reached(before) != _reached(after)


def _board_record(record: RecordRow) -> BoardRecord:
    return BoardRecord(
        provider_id=record.provider_id,
        total_signals=record.total_signals,
        followers=record.follower_count,
        closed=record.closed_count,
        wins=record.win_count,
        return_sum=record.return_sum,
        current_streak=record.current_streak,
    )


def _reached(record: RecordRow) -> tuple[object, ...]:
    # Only the first signal counts for anything: most of a feed's signals cause no event.
    return record.win_count, record.most_followers, record.verification_level, record.total_signals > 0


def _facts(record: RecordRow, at: datetime) -> ProviderFacts:
    return ProviderFacts(
        signals=record.total_signals,
        wins=record.win_count,
        most_followers=record.most_followers,
        level=record.verification_level,
        is_provider=True,
        at=at,
    )
