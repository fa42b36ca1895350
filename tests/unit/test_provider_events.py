"""Which changes of a record are domain events to its user, and how a follow is decided."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest

from actors.providers.events import RecordChange, is_event
from actors.providers.following import MOST_FOLLOWED, Ledger
from actors.providers.messages import Follow, SetNotify, Unfollow
from actors.providers.record import closed, counted
from db.providers.follows import FollowerChange, FollowingRow, FollowRow
from db.providers.records import RecordRow
from schemas.errors import AppError, Conflict, NotFound, Unauthorized, ValidationFailed
from tests.support.users_factory import NOON

KING, FAN = UUID(int=1), UUID(int=2)
RECORD = RecordRow(KING, is_system=False, applied_seq=7, total_signals=3)
FOLLOW = FollowRow(FAN, KING, True, NOON)


def ledger(*follows: FollowRow, following: int = 0) -> Ledger:
    return Ledger({KING: RECORD}, [FollowingRow(FAN, following, NOON if following else None)], follows)


def test_most_signals_make_no_domain_event_for_a_person() -> None:
    opened = counted(RECORD, 8, NOON)
    assert not is_event(RecordChange(RECORD, opened))
    assert not is_event(RecordChange(RECORD, closed(RECORD, NOON, -1, "LOSS")))
    assert not is_event(RecordChange(RECORD, replace(RECORD, follower_count=1, most_followers=0)))
    assert is_event(RecordChange(RECORD, closed(RECORD, NOON, 1, "PROFIT")))
    assert is_event(RecordChange(RECORD, replace(RECORD, most_followers=1)))
    assert is_event(RecordChange(RECORD, replace(RECORD, verification_level="basic")))
    first = replace(RECORD, total_signals=0)
    assert is_event(RecordChange(first, counted(first, 8, NOON)))
    assert is_event(RecordChange(None, first))


def test_sources_get_no_domain_events() -> None:
    source = replace(RECORD, is_system=True)
    assert not is_event(RecordChange(source, closed(source, NOON, 1, "PROFIT")))


def test_a_follow_is_counted_where_it_happened_among_the_signals() -> None:
    book = ledger()
    assert book.decide(KING, Follow(FAN, None, NOON)) == (FOLLOW, True)
    assert book.decide(KING, Follow(FAN, False, NOON)) == (replace(FOLLOW, notify_on_signal=False), False)
    assert book.decide(KING, Follow(FAN, None, NOON)) == (replace(FOLLOW, notify_on_signal=False), False)
    book.decide(KING, Unfollow(FAN, NOON))
    book.decide(KING, Unfollow(FAN, NOON))
    assert book.changes == [FollowerChange(KING, NOON, 1, 7), FollowerChange(KING, NOON, -1, 7)]
    assert book.follows == {(FAN, KING): None}
    assert book.first == {FAN: NOON}
    assert book.followings[FAN] == FollowingRow(FAN, 0, NOON)
    assert (book.records[KING].follower_count, book.records[KING].most_followers) == (0, 1)


def test_a_first_follow_is_first_once() -> None:
    book = ledger(following=1)
    book.decide(KING, Follow(FAN, None, NOON))
    assert book.first == {}


@pytest.mark.parametrize(
    ("provider", "message", "error"),
    [
        (UUID(int=3), Follow(FAN, None, NOON), NotFound),
        (UUID(int=3), Unfollow(FAN, NOON), NotFound),
        (KING, Follow(KING, None, NOON), ValidationFailed),
        (KING, Follow(UUID(int=4), None, NOON), Unauthorized),
        (KING, SetNotify(FAN, True), NotFound),
    ],
)
def test_refused_commands_change_nothing(provider: UUID, message: object, error: type[AppError]) -> None:
    book = ledger()
    with pytest.raises(error):
        book.decide(provider, message)  # type: ignore[arg-type]
    assert (book.changes, book.touched, book.first) == ([], set(), {})


def test_five_hundred_are_enough() -> None:
    book = ledger(following=MOST_FOLLOWED - 1)
    book.decide(KING, Follow(FAN, None, NOON))
    other = UUID(int=9)
    book.records[other] = RecordRow(other, is_system=False)
    with pytest.raises(Conflict):
        book.decide(other, Follow(FAN, None, NOON))
    book.decide(KING, Unfollow(FAN, NOON))
    book.decide(other, Follow(FAN, None, NOON))
