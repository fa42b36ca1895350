"""What a user may say of a signal: the rules alone, and any history against a plain account of it."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.users.changes import Commented, Counted
from actors.users.messages import DeleteComment, EditComment, EditSettings, PostComment, React, Unreact
from actors.users.social import Talk, decide
from db.signals.reads import REACTIONS
from schemas.errors import AppError, Conflict, Internal, NotFound
from tests.support.users_factory import NOON

USER, SIGNAL, KING = UUID(int=1), UUID(int=2), UUID(int=3)
KINDS = tuple(REACTIONS)


def after(talk: Talk, *messages: Any) -> Talk:
    for each in messages:
        talk = decide(talk, each).state
    return talk


def post(number: int, text: str = "Great call!", seconds: float = 0) -> PostComment:
    return PostComment(UUID(int=number), None, text, NOON + timedelta(seconds=seconds))


def test_a_reaction_counts_when_it_comes_and_when_it_goes() -> None:
    first = decide(Talk.empty(USER, SIGNAL), React("like", KING, NOON))
    assert first.reply is True
    assert first.changes[1] == Counted(SIGNAL, "likes", 1, KING)
    again = decide(first.state, React("like", KING, NOON))
    assert (again.reply, again.changes) == (False, ())
    gone = decide(first.state, Unreact("like", KING, NOON))
    assert gone.changes[1] == Counted(SIGNAL, "likes", -1, KING)
    assert decide(gone.state, Unreact("like", KING, NOON)).changes == ()
    assert decide(gone.state, React("like", KING, NOON)).reply is True


def test_a_reaction_or_comment_that_never_was_cannot_be_taken_back() -> None:
    talk = after(Talk.empty(USER, SIGNAL), React("fire", KING, NOON), post(1))
    for message in (
        Unreact("like", KING, NOON),
        EditComment(UUID(int=9), "x"),
        DeleteComment(UUID(int=9), NOON),
    ):
        with pytest.raises(NotFound):
            decide(talk, message)
    gone = after(talk, DeleteComment(UUID(int=1), NOON))
    assert decide(gone, DeleteComment(UUID(int=1), NOON)).changes == ()
    with pytest.raises(NotFound):
        decide(gone, EditComment(UUID(int=1), "x"))


def test_the_same_text_is_refused_for_a_minute_whatever_clock_it_is_measured_by() -> None:
    talk = after(Talk.empty(USER, SIGNAL), post(1))
    for seconds in (0, 59.999, -59.999):
        with pytest.raises(Conflict):
            decide(talk, post(2, seconds=seconds))
    for message in (post(2, seconds=60), post(2, "Great call"), post(2, seconds=-60)):
        assert isinstance(decide(talk, message).changes[0], Commented)
    edited = after(talk, EditComment(UUID(int=1), "Other"))
    assert decide(edited, post(2)).changes
    with pytest.raises(Conflict):
        decide(edited, post(2, "Other"))
    deleted = after(talk, DeleteComment(UUID(int=1), NOON))
    assert decide(deleted, post(2)).changes, "what is gone is not said twice"


def test_an_edit_that_changes_nothing_is_none() -> None:
    talk = after(Talk.empty(USER, SIGNAL), post(1))
    assert decide(talk, EditComment(UUID(int=1), "Great call!")).changes == ()
    assert after(talk, EditComment(UUID(int=1), "Bad call!")).comments[UUID(int=1)].is_edited


def test_a_message_for_somebody_else_is_a_mistake_of_ours() -> None:
    with pytest.raises(Internal):
        decide(Talk.empty(USER, SIGNAL), EditSettings({}))


ACTIONS = st.one_of(
    st.builds(React, st.sampled_from(KINDS), st.just(KING), st.just(NOON)),
    st.builds(Unreact, st.sampled_from(KINDS), st.just(KING), st.just(NOON)),
    st.builds(post, st.integers(1, 6), st.sampled_from(["a", "b"]), st.integers(0, 300)),
    st.builds(DeleteComment, st.integers(1, 6).map(lambda n: UUID(int=n)), st.just(NOON)),
    st.builds(EditComment, st.integers(1, 6).map(lambda n: UUID(int=n)), st.sampled_from(["a", "c"])),
)


@given(st.lists(ACTIONS, max_size=40))
def test_the_counters_are_the_sum_of_what_stands_after_any_history(actions: list[Any]) -> None:
    talk, counted = Talk.empty(USER, SIGNAL), Counter[str]()
    for action in actions:
        if isinstance(action, PostComment) and action.comment_id in talk.comments:
            continue  # ids are new
        try:
            decision = decide(talk, action)
        except AppError:
            continue
        assert bool(decision.changes) == (decision.state != talk)
        talk = decision.state
        for change in decision.changes:
            if isinstance(change, Counted):
                counted[change.column] += change.delta
    for kind, column in REACTIONS.items():
        assert counted[column] == (kind in talk.reactions and talk.reactions[kind].is_active)
    assert counted["comments"] == sum(each.deleted_at is None for each in talk.comments.values())
