"""Progress: streaks of days, achievements, both ends of referrals. The rules are pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from actors._runtime.messages import Message
from actors._runtime.virtual import Effect, Transition, events_of
from actors.streaks import Streak, from_row, record, to_row
from actors.users.achievements import Facts, due
from actors.users.messages import Activity, FirstFollow, ProviderFacts, Qualify
from actors.users.referrals import REFERRALS, tier_of
from db import achievements, referrals
from db._postgres import Connection
from db.achievements import UnlockedRow
from db.referrals import ActedRow, QualifiedRow
from db.streaks import EndedStreakRow, StreakType, insert_ended, load_streaks, upsert_streaks
from schemas.errors import Conflict, Internal, NotFound

MAILBOX_COUNTED = "A referral by this mailbox has counted already"


@dataclass(frozen=True, slots=True)
class ProgressState:
    """A user's progress; `owes_to`: the user's referrer, until notified that the user has acted."""

    user_id: UUID
    owes_to: UUID | None
    streaks: Mapping[StreakType, Streak]
    unlocked: frozenset[str]
    qualified: frozenset[UUID]  # referees; at most REFERRALS


Event = EndedStreakRow | UnlockedRow | ActedRow | QualifiedRow
_Effect = Effect[ProgressState, Event]
_Transition = Transition[ProgressState, Event]


def fresh(user_id: UUID) -> ProgressState:
    """Raise NotFound: a user without saved progress has no account."""
    raise NotFound("User not found")


def decide(progress: ProgressState, message: Message[object]) -> _Effect:
    """Return the effect of `message`."""
    match message:
        case Activity():
            return _activity(progress, message)
        case ProviderFacts():
            return _provider_facts(progress, message)
        case FirstFollow():
            state, events = _act(progress, message.at)
            return Effect(state, None, tuple(events))
        case Qualify():
            return _qualify(progress, message)
    raise Internal(f"progress does not take {type(message).__name__}")


def _activity(progress: ProgressState, message: Activity) -> _Effect:
    kind = message.streak
    before = progress.streaks.get(kind)
    streak, ended = record(before, message.at, message.zone)
    if streak == before:
        return Effect(progress)
    events: list[Event] = []
    if ended is not None:
        events.append(EndedStreakRow(progress.user_id, kind, ended.count, ended.started_on, ended.ended_on))
    state = replace(progress, streaks={**progress.streaks, kind: streak})
    return _unlock(state, {}, message.at, events)


def _provider_facts(progress: ProgressState, message: ProviderFacts) -> _Effect:
    facts: Facts = {
        "signals": message.signals,
        "wins": message.wins,
        "followers": message.most_followers,
        "first_as_provider": min(message.signals, 1) if message.is_provider else 0,
        "verified": int(message.level != "none"),
    }
    state, events = _act(progress, message.at) if message.signals else (progress, [])
    return _unlock(state, facts, message.at, events)


def _qualify(progress: ProgressState, message: Qualify) -> _Effect:
    if message.referee_id in progress.qualified or len(progress.qualified) >= REFERRALS:
        return Effect(progress)
    state = replace(progress, qualified=progress.qualified | {message.referee_id})
    tier = tier_of(len(state.qualified))  # the tier that this referral leads to
    row = QualifiedRow(
        message.referee_id, progress.user_id, tier.id, tier.referrer_reward, tier.referee_reward, message.at
    )
    return _unlock(state, {}, message.at, [row])


def _act(progress: ProgressState, at: datetime) -> tuple[ProgressState, list[Event]]:
    if progress.owes_to is None:
        return progress, []
    return replace(progress, owes_to=None), [ActedRow(progress.user_id, progress.owes_to, at)]


def _unlock(progress: ProgressState, facts: Facts, at: datetime, events: list[Event]) -> _Effect:
    login = progress.streaks.get("login")
    known: Facts = {**facts, "login_days": login.longest if login else 0, "referrals": len(progress.qualified)}
    new = [each for each in due(known) if each not in progress.unlocked]
    rows = [UnlockedRow(progress.user_id, each, at) for each in new]
    return Effect(replace(progress, unlocked=progress.unlocked.union(new)), None, (*events, *rows))


async def load(conn: Connection, ids: Sequence[UUID]) -> Mapping[UUID, ProgressState]:
    """Return the progress of those users that exist."""
    streaks: dict[UUID, dict[StreakType, Streak]] = defaultdict(dict)
    for each in await load_streaks(conn, "user", ids):
        streaks[each.owner_id][each.streak_type] = from_row(each)
    return {
        row.user_id: ProgressState(
            row.user_id,
            row.referrer_id if row.acted_at is None else None,
            streaks[row.user_id],
            frozenset(row.unlocked),
            frozenset(row.qualified),
        )
        for row in await achievements.load_progress(conn, ids)
    }


async def save(conn: Connection, transitions: Sequence[_Transition]) -> None:
    """Save streaks, achievements and referrals; raises Conflict for a mailbox that has counted."""
    streaks = {
        (each.key, kind): to_row(each.after.user_id, kind, streak)
        for each in transitions
        for kind, streak in each.after.streaks.items()
        if each.before.streaks.get(kind) is not streak
    }
    if streaks:
        await upsert_streaks(conn, "user", list(streaks.values()))
    if ended := events_of(transitions, EndedStreakRow):
        await insert_ended(conn, "user", ended)
    if unlocked := events_of(transitions, UnlockedRow):
        await achievements.insert_unlocked(conn, unlocked)
    if acted := events_of(transitions, ActedRow):
        await referrals.mark_acted(conn, acted)
    qualified = events_of(transitions, QualifiedRow)
    if qualified and await referrals.take_mailboxes(conn, qualified) < len(qualified):
        raise Conflict(MAILBOX_COUNTED)
    if qualified and await referrals.qualify(conn, qualified) < len(qualified):
        raise Internal("a referral that is none was to qualify")
