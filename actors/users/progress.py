"""Decide progress messages (pure): streaks of days, achievements, both ends of referrals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from actors._runtime.messages import Message
from actors._runtime.virtual import Decision
from actors.streaks import Streak, record, to_columns
from actors.users.achievements import Facts, due
from actors.users.changes import Change
from actors.users.messages import Activity, FirstFollow, ProviderFacts, Qualify
from actors.users.referrals import REFERRALS, tier_of
from db.achievements import EndedStreakRow, StreakRow, UnlockedRow
from db.referrals import ActedRow, QualifiedRow
from schemas._vocabulary import UserStreakType
from schemas.errors import Internal


@dataclass(frozen=True, slots=True)
class Progress:
    """The state; `owes_to`: the user's referrer, until notified that the user has acted."""

    user_id: UUID
    owes_to: UUID | None
    streaks: Mapping[UserStreakType, Streak]
    unlocked: frozenset[str]
    qualified: frozenset[UUID]  # referees; at most REFERRALS


Result = Decision[Progress, Change]


def decide(progress: Progress, message: Message[Any]) -> Result:
    """Return the result of `message`."""
    rule = _RULES.get(type(message))
    if rule is None:
        raise Internal(f"a progress does not take {type(message).__name__}")
    return rule(progress, message)


def _activity(progress: Progress, message: Activity) -> Result:
    before = progress.streaks.get(message.streak)
    streak, ended = record(before, message.at, message.zone)
    if streak == before:
        return Decision(progress)
    user_id, kind = progress.user_id, message.streak
    changes: list[Change] = [StreakRow(user_id, kind, *to_columns(streak))]
    if ended is not None:
        changes.append(EndedStreakRow(user_id, kind, ended.count, ended.started_on, ended.ended_on))
    state = replace(progress, streaks={**progress.streaks, kind: streak})
    return _unlock(state, {}, message.at, changes)


def _provider_facts(progress: Progress, message: ProviderFacts) -> Result:
    facts: Facts = {
        "signals": message.signals,
        "wins": message.wins,
        "followers": message.most_followers,
        "first_as_provider": min(message.signals, 1) if message.is_provider else 0,
        "verified": int(message.level != "none"),
    }
    state, changes = _act(progress, message.at) if message.signals else (progress, [])
    return _unlock(state, facts, message.at, changes)


def _first_follow(progress: Progress, message: FirstFollow) -> Result:
    state, changes = _act(progress, message.at)
    return Decision(state, None, tuple(changes))


def _qualify(progress: Progress, message: Qualify) -> Result:
    if message.referee_id in progress.qualified or len(progress.qualified) >= REFERRALS:
        return Decision(progress)
    state = replace(progress, qualified=progress.qualified | {message.referee_id})
    tier = tier_of(len(state.qualified))  # the tier that this referral leads to
    row = QualifiedRow(
        message.referee_id, progress.user_id, tier.id, tier.referrer_reward, tier.referee_reward, message.at
    )
    return _unlock(state, {}, message.at, [row])


_RULES: Mapping[type[Message[Any]], Callable[[Progress, Any], Result]] = {
    Activity: _activity,
    ProviderFacts: _provider_facts,
    FirstFollow: _first_follow,
    Qualify: _qualify,
}


def _act(progress: Progress, at: datetime) -> tuple[Progress, list[Change]]:
    if progress.owes_to is None:
        return progress, []
    return replace(progress, owes_to=None), [ActedRow(progress.user_id, progress.owes_to, at)]


def _unlock(progress: Progress, facts: Facts, at: datetime, changes: list[Change]) -> Result:
    login = progress.streaks.get("login")
    known: Facts = {**facts, "login_days": login.longest if login else 0, "referrals": len(progress.qualified)}
    new = [each for each in due(known) if each not in progress.unlocked]
    rows = [UnlockedRow(progress.user_id, each, at) for each in new]
    state = replace(progress, unlocked=progress.unlocked.union(new)) if new else progress
    return Decision(state, None, (*changes, *rows))
