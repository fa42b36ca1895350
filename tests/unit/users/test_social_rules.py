"""The rules of reactions and comments alone, and any history against a plain model of it."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors._runtime.virtual import Effect, Transition
from actors.users.messages import DeleteComment, EditComment, EditSettings, PostComment, React, Unreact
from actors.users.social import SocialState, counted, decide, fresh, new_comments
from db.signals.document import REACTIONS
from schemas.errors import AppError, Conflict, Internal, NotFound
from tests.support.users_factory import NOON, unchanged

USER, SIGNAL = UUID(int=1), UUID(int=2)
KINDS = tuple(REACTIONS)


def after(state: SocialState, *messages: Any) -> SocialState:
    for each in messages:
        state = decide(state, each).state
    return state


def step(before: SocialState, effect: Effect[SocialState, Any]) -> Transition[SocialState, Any]:
    return Transition("", before, effect.state)


def counts(before: SocialState, effect: Effect[SocialState, Any]) -> dict[str, int]:
    """Return by how much the signal's counters change, without those that stay."""
    [(signal_id, delta)] = counted([step(before, effect)]).items()
    assert signal_id == SIGNAL
    return {name: by for name, by in delta.items() if by}


def post(number: int, text: str = "Great call!", seconds: float = 0) -> PostComment:
    return PostComment(UUID(int=number), None, text, NOON + timedelta(seconds=seconds))


def test_a_reaction_counts_when_it_comes_and_when_it_goes() -> None:
    state = fresh((USER, SIGNAL))
    first = decide(state, React("like", NOON))
    assert first.reply is True
    assert counts(state, first) == {"likes": 1}
    again = decide(first.state, React("like", NOON))
    assert again.reply is False
    assert unchanged(first.state, again)
    gone = decide(first.state, Unreact("like", NOON))
    assert counts(first.state, gone) == {"likes": -1}
    assert unchanged(gone.state, decide(gone.state, Unreact("like", NOON)))
    assert decide(gone.state, React("like", NOON)).reply is True


def test_a_reaction_or_comment_that_never_was_cannot_be_taken_back() -> None:
    state = after(fresh((USER, SIGNAL)), React("fire", NOON), post(1))
    for message in (
        Unreact("like", NOON),
        EditComment(UUID(int=9), "x"),
        DeleteComment(UUID(int=9), NOON),
    ):
        with pytest.raises(NotFound):
            decide(state, message)
    gone = after(state, DeleteComment(UUID(int=1), NOON))
    assert unchanged(gone, decide(gone, DeleteComment(UUID(int=1), NOON)))
    with pytest.raises(NotFound):
        decide(gone, EditComment(UUID(int=1), "x"))


def test_the_same_text_is_refused_for_a_minute_whatever_clock_it_is_measured_by() -> None:
    state = after(fresh((USER, SIGNAL)), post(1))
    for seconds in (0, 59.999, -59.999):
        with pytest.raises(Conflict):
            decide(state, post(2, seconds=seconds))
    for message in (post(2, seconds=60), post(2, "Great call"), post(2, seconds=-60)):
        assert [each.id for each in new_comments([step(state, decide(state, message))])] == [message.comment_id]
    edited = after(state, EditComment(UUID(int=1), "Other"))
    assert new_comments([step(edited, decide(edited, post(2)))])
    with pytest.raises(Conflict):
        decide(edited, post(2, "Other"))
    deleted = after(state, DeleteComment(UUID(int=1), NOON))
    assert new_comments([step(deleted, decide(deleted, post(2)))]), "what is gone is not said twice"


def test_an_edit_that_changes_nothing_is_none() -> None:
    state = after(fresh((USER, SIGNAL)), post(1))
    assert unchanged(state, decide(state, EditComment(UUID(int=1), "Great call!")))
    assert after(state, EditComment(UUID(int=1), "Bad call!")).comments[UUID(int=1)].is_edited


def test_a_message_for_somebody_else_is_a_mistake_of_ours() -> None:
    with pytest.raises(Internal):
        decide(fresh((USER, SIGNAL)), EditSettings({}))


ACTIONS = st.one_of(
    st.builds(React, st.sampled_from(KINDS), st.just(NOON)),
    st.builds(Unreact, st.sampled_from(KINDS), st.just(NOON)),
    st.builds(post, st.integers(1, 6), st.sampled_from(["a", "b"]), st.integers(0, 300)),
    st.builds(DeleteComment, st.integers(1, 6).map(lambda n: UUID(int=n)), st.just(NOON)),
    st.builds(EditComment, st.integers(1, 6).map(lambda n: UUID(int=n)), st.sampled_from(["a", "c"])),
)


@given(st.lists(ACTIONS, max_size=40))
def test_the_counters_are_the_sum_of_what_stands_after_any_history(actions: list[Any]) -> None:
    state, steps = fresh((USER, SIGNAL)), []
    for action in actions:
        if isinstance(action, PostComment) and action.comment_id in state.comments:
            continue  # ids are new
        try:
            effect = decide(state, action)
        except AppError:
            continue
        steps.append(step(state, effect))
        state = effect.state
    for transitions in (steps, [Transition("", fresh((USER, SIGNAL)), state)]):
        deltas = counted(transitions).get(SIGNAL, Counter())
        for kind, column in REACTIONS.items():
            assert deltas[column] == (kind in state.reactions and state.reactions[kind].is_active)
        assert deltas["comments"] == sum(each.deleted_at is None for each in state.comments.values())
    assert {each.id for each in new_comments(steps)} == set(state.comments)
