"""The actor `users/{k}`: accounts, preferences, … as virtual actors, each kind in its own module."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from uuid import UUID

import orjson

from actors._runtime.context import ActorContext
from actors._runtime.messages import Message
from actors._runtime.virtual import Effect, Transition, VirtualActor, events_of
from actors.users import account, address, preferences, progress, social
from actors.users._events import notify_acted, notify_posts
from actors.users._repairs import REPAIR_EVERY_SECONDS, Repairs
from actors.users.account import AccountState
from actors.users.address import AddressState
from actors.users.preferences import PreferencesState
from actors.users.progress import ProgressState
from actors.users.social import SocialState
from config.ids import parse_uuid
from db._postgres import Connection
from db.referrals import ActedRow
from db.users import tokens
from schemas.errors import NotFound

REVOCATIONS_CHANNEL = "tradestream:sessions:revoked"
SETTINGS_CHANNEL = "tradestream:settings:changed"
EXPIRE_EVERY_SECONDS = 300.0
EXPIRE_AT_ONCE = 5_000

State = AccountState | PreferencesState | AddressState | ProgressState | SocialState
Event = account.Event | progress.Event
Transitions = Sequence[Transition[State, Event]]

Id = TypeVar("Id")
Own = TypeVar("Own")
OwnEvent = TypeVar("OwnEvent")


def _user_id(text: str) -> UUID:
    found = parse_uuid(text)
    if found is None:
        raise NotFound("User not found")
    return found


def _user_and_signal(text: str) -> social.Pair:
    user_id, _, signal_id = text.partition(":")
    user, signal = parse_uuid(user_id), parse_uuid(signal_id)
    if user is None or signal is None:
        raise NotFound("Signal not found")
    return user, signal


@dataclass(frozen=True, slots=True)
class _Entity(Generic[Id, Own, OwnEvent]):
    """A kind of virtual actor: how its id is read from a key, and how it is loaded, changed and saved."""

    parse: Callable[[str], Id]
    fresh: Callable[[Id], Own]
    load: Callable[[Connection, Sequence[Id]], Awaitable[Mapping[Id, Own]]]
    decide: Callable[[Own, Message[object]], Effect[Own, OwnEvent]]
    save: Callable[[Connection, Sequence[Transition[Own, OwnEvent]]], Awaitable[None]]


# By the prefixes of their keys, in the order in which they are saved: an account before what refers to it.
_ENTITIES: Mapping[str, _Entity[Any, Any, Any]] = {
    "": _Entity(_user_id, account.fresh, account.load, account.decide, account.save),
    "address": _Entity(str, address.fresh, address.load, address.decide, address.save),
    "preferences": _Entity(_user_id, preferences.fresh, preferences.load, preferences.decide, preferences.save),
    "progress": _Entity(_user_id, progress.fresh, progress.load, progress.decide, progress.save),
    "social": _Entity(_user_and_signal, social.fresh, social.load, social.decide, social.save),
}


class Users(VirtualActor[State, Event]):
    """Owns accounts with their sessions and links, and users' preferences, progress, reactions and comments.

    Success: what was answered is committed. A crash loses nothing but how many e-mails were requested for an address.
    Repeating is harmless: commands carry ids, rows have the ids that their senders chose, and facts are absolute. Ended
    sessions are published, and stay in their table for gateways that missed it. Lost messages, to and from others, are
    found again by a sweep.
    """

    max_in_memory = 5_000  # preferences with everything at their limits take a megabyte, usual ones a few kilobytes

    async def start(self, context: ActorContext) -> None:
        """Start removing expired rows, and looking for lost messages."""
        await super().start(context)
        if context.shard == 0:
            context.every(EXPIRE_EVERY_SECONDS, self._expire, name="expire tokens")
            context.every(REPAIR_EVERY_SECONDS, Repairs(context).turn, name="repairs")

    async def load(self, conn: Connection, keys: Sequence[str]) -> Mapping[str, State]:
        """See VirtualActor; raises NotFound for a key that cannot belong to any user."""
        by_id: dict[str, dict[Any, str]] = defaultdict(dict)
        for key in keys:
            prefix, text = _split(key)
            by_id[prefix][_ENTITIES[prefix].parse(text)] = key
        found: dict[str, State] = {}
        for prefix, known in by_id.items():
            states = await _ENTITIES[prefix].load(conn, list(known))
            found |= {known[each]: state for each, state in states.items()}
        return found

    def fresh(self, key: str) -> State:
        """See VirtualActor."""
        prefix, text = _split(key)
        state: State = _ENTITIES[prefix].fresh(_ENTITIES[prefix].parse(text))
        return state

    def handle(self, key: str, state: State, message: Message[object]) -> Effect[State, Event]:
        """See VirtualActor."""
        effect: Effect[State, Event] = _ENTITIES[_split(key)[0]].decide(state, message)
        return effect

    async def save(self, conn: Connection, transitions: Transitions) -> None:
        """See VirtualActor."""
        for prefix, entity in _ENTITIES.items():
            if own := [each for each in transitions if _split(each.key)[0] == prefix]:
                await entity.save(conn, own)

    async def published(self, transitions: Transitions) -> None:
        """Notify referrers of referees' acts, gateways of ended sessions and settings, authors' owners of posts."""
        notify_acted(self.context, events_of(transitions, ActedRow))
        messages: dict[str, bytes] = {}
        if ended := account.ended_sessions(_of(transitions, AccountState)):
            messages[REVOCATIONS_CHANNEL] = orjson.dumps([str(each) for each in ended])
        if changed := preferences.changed_settings(_of(transitions, PreferencesState)):
            messages[SETTINGS_CHANNEL] = orjson.dumps(sorted({str(each.user_id) for each in changed}))
        await self.context.redis.announce(messages)
        if posted := social.new_comments(_of(transitions, SocialState)):
            await notify_posts(self.context, [(each.user_id, each.created_at) for each in posted])

    async def _expire(self) -> None:
        async with self.context.transaction() as conn:
            await tokens.expire(conn, EXPIRE_AT_ONCE)


def _split(key: str) -> tuple[str, str]:
    """Return a key's prefix and the rest of it."""
    prefix, colon, text = key.partition(":")
    if not colon:
        return "", key
    if prefix not in _ENTITIES:
        raise NotFound("User not found")
    return prefix, text


def _of(transitions: Transitions, kind: type[Own]) -> list[Transition[Own, Any]]:
    found: list[Transition[Any, Any]] = [each for each in transitions if isinstance(each.after, kind)]
    return found
