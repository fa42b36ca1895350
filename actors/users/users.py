"""The actor `users/{k}`: accounts, preferences, … as virtual actors, each decided by its own module."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson

from actors._runtime.context import ActorContext
from actors._runtime.messages import Message
from actors._runtime.virtual import Decision, VirtualActor
from actors.users import account, address, preferences, progress, social
from actors.users._events import tell_acted, tell_posts
from actors.users._loading import load_accounts, load_libraries, load_progresses, load_talks
from actors.users._repairs import REPAIR_EVERY_SECONDS, Repairs
from actors.users.account import Account
from actors.users.address import Address
from actors.users.changes import (
    Change,
    Commented,
    SessionEnded,
    of_kind,
    save_accounts,
    save_lists,
    save_progress,
    save_sessions,
    save_talks,
)
from actors.users.preferences import Library
from actors.users.progress import Progress
from actors.users.social import Talk
from config.ids import parse_uuid
from db._postgres import Connection
from db.referrals import ActedRow
from db.users import tokens
from db.users.preferences import SettingsRow
from schemas.errors import NotFound

State = Account | Library | Address | Progress | Talk

REVOCATIONS_CHANNEL = "tradestream:sessions:revoked"
SETTINGS_CHANNEL = "tradestream:settings:changed"
EXPIRE_EVERY_SECONDS = 300.0
EXPIRE_AT_ONCE = 5_000

_ADDRESS, _SOCIAL = "address:", "social:"


@dataclass(frozen=True, slots=True)
class _Family:
    """The entities of one kind: how to decide and how to load them; `fresh` is None where they must exist."""

    decide: Callable[[Any, Message[Any]], Decision[Any, Change]]
    load: Callable[[Connection, Sequence[UUID]], Awaitable[Mapping[UUID, State]]]
    fresh: Callable[[UUID], State] | None


_FAMILIES: Mapping[str, _Family] = {
    "": _Family(account.decide, load_accounts, lambda _: Account(None, {})),
    "library:": _Family(preferences.decide, load_libraries, Library.empty),
    "progress:": _Family(progress.decide, load_progresses, None),
}


class Users(VirtualActor[State, Change]):
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

    def fresh(self, key: str) -> State:
        """See VirtualActor; raises NotFound for a key that cannot belong to any user."""
        if key.startswith(_ADDRESS):
            return Address(key.removeprefix(_ADDRESS), {})
        if key.startswith(_SOCIAL):
            return Talk.empty(*_pair(key))
        prefix, user_id = _parts(key)
        make = _FAMILIES[prefix].fresh
        if make is None:
            raise NotFound("User not found")
        return make(user_id)

    async def load(self, conn: Connection, keys: Sequence[str]) -> Mapping[str, State]:
        """See VirtualActor."""
        wanted: dict[str, list[UUID]] = defaultdict(list)
        talks = {_pair(key): key for key in keys if key.startswith(_SOCIAL)}
        for key in keys:
            if not key.startswith((_ADDRESS, _SOCIAL)):
                prefix, user_id = _parts(key)
                wanted[prefix].append(user_id)
        found: dict[str, State] = {}
        for prefix, ids in wanted.items():
            states = await _FAMILIES[prefix].load(conn, ids)
            found.update((f"{prefix}{user_id}", state) for user_id, state in states.items())
        if talks:
            found.update((talks[pair], state) for pair, state in (await load_talks(conn, list(talks))).items())
        return found

    def handle(self, key: str, state: State, message: Message[Any]) -> Decision[State, Change]:
        """See VirtualActor."""
        decide: Any
        if isinstance(state, Address):
            decide = address.decide
        elif isinstance(state, Talk):
            decide = social.decide
        else:
            decide = _FAMILIES[_parts(key)[0]].decide
        decision: Decision[State, Change] = decide(state, message)
        return decision

    async def save(self, conn: Connection, changes: Sequence[Change]) -> None:
        """See VirtualActor; an account is saved before what refers to it."""
        await save_accounts(conn, changes)
        await save_sessions(conn, changes)
        await save_lists(conn, changes)
        await save_progress(conn, changes)
        await save_talks(conn, changes)

    async def published(self, changes: Sequence[Change]) -> None:
        """Notify referrers of referees' acts, gateways of ended sessions and settings, authors' owners of posts."""
        tell_acted(self.context, of_kind(changes, ActedRow))
        messages: dict[str, bytes] = {}
        if ended := [str(each.session_id) for each in of_kind(changes, SessionEnded)]:
            messages[REVOCATIONS_CHANNEL] = orjson.dumps(ended)
        if changed := {str(each.user_id) for each in of_kind(changes, SettingsRow)}:
            messages[SETTINGS_CHANNEL] = orjson.dumps(sorted(changed))
        await self.context.redis.announce(messages)
        if posted := [each.comment for each in of_kind(changes, Commented)]:
            await tell_posts(self.context, [(each.user_id, each.created_at) for each in posted])

    async def _expire(self) -> None:
        async with self.context.transaction() as conn:
            await tokens.expire(conn, EXPIRE_AT_ONCE)


def _pair(key: str) -> tuple[UUID, UUID]:
    """Return a talk's user and signal."""
    user_id, _, signal_id = key.removeprefix(_SOCIAL).partition(":")
    pair = parse_uuid(user_id), parse_uuid(signal_id)
    if pair[0] is None or pair[1] is None:
        raise NotFound("Signal not found")
    return pair[0], pair[1]


def _parts(key: str) -> tuple[str, UUID]:
    prefix, colon, text = key.rpartition(":")
    found = parse_uuid(text)
    if found is None or prefix + colon not in _FAMILIES:
        raise NotFound("User not found")
    return prefix + colon, found
