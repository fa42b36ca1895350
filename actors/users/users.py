"""The actor `users/{k}`: accounts, libraries and addresses as virtual actors, each by the rules of its own module."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

import orjson

from actors._behaviour import Room
from actors._messages import Message
from actors._virtual import Decision, Virtual
from actors.users import account, address, library
from actors.users.account import Account
from actors.users.address import Address
from actors.users.changes import Change, SessionEnded, of_kind, save_accounts, save_lists, save_sessions
from actors.users.library import Library
from config.ids import parse_uuid
from db._postgres import Connection
from db.users import accounts, lists, sessions, tokens
from schemas.errors import NotFound

State = Account | Library | Address

REVOCATIONS_CHANNEL = "tradestream:sessions:revoked"
EXPIRE_EVERY_SECONDS = 300.0
EXPIRE_AT_ONCE = 5_000

_LIBRARY, _ADDRESS = "library:", "address:"


class Users(Virtual[State, Change]):
    """Owns accounts with their sessions and links, and what users keep.

    Success: what was answered is committed. A crash loses nothing but how many letters an address has asked for.
    Repeating is harmless: commands carry ids, and rows have the ids that their senders chose. Ended sessions are
    published, and stay in their table for gateways that missed it.
    """

    max_in_memory = 5_000  # a library with everything at its limits takes a megabyte, a usual one a few kilobytes

    async def start(self, room: Room) -> None:
        """Begin to remove what is long over."""
        await super().start(room)
        if room.shard == 0:
            room.every(EXPIRE_EVERY_SECONDS, self._expire, name="expire tokens")

    def fresh(self, key: str) -> State:
        """See Virtual. Raises NotFound for a key that can be nobody's."""
        if key.startswith(_ADDRESS):
            return Address(key.removeprefix(_ADDRESS), {})
        if key.startswith(_LIBRARY):
            return Library.empty(_user_id(key.removeprefix(_LIBRARY)))
        _user_id(key)
        return Account(None, {})

    async def load(self, conn: Connection, keys: Sequence[str]) -> Mapping[str, State]:
        """See Virtual."""
        found: dict[str, State] = {}
        if owners := [_user_id(key) for key in keys if not key.startswith((_ADDRESS, _LIBRARY))]:
            found.update(await _load_accounts(conn, owners))
        if keepers := [_user_id(key.removeprefix(_LIBRARY)) for key in keys if key.startswith(_LIBRARY)]:
            found.update(await _load_libraries(conn, keepers))
        return found

    def handle(self, key: str, state: State, message: Message[Any]) -> Decision[State, Change]:
        """See Virtual."""
        rules: Any = account if isinstance(state, Account) else library if isinstance(state, Library) else address
        decision: Decision[State, Change] = rules.decide(state, message)
        return decision

    async def save(self, conn: Connection, changes: Sequence[Change]) -> None:
        """See Virtual. An account comes before what refers to it."""
        await save_accounts(conn, changes)
        await save_sessions(conn, changes)
        await save_lists(conn, changes)

    async def published(self, changes: Sequence[Change]) -> None:
        """Tell the gateways of sessions that have ended."""
        ended = [str(each.session_id) for each in of_kind(changes, SessionEnded)]
        if ended:
            await self.room.redis.publish(REVOCATIONS_CHANNEL, orjson.dumps(ended))

    async def _expire(self) -> None:
        async with self.room.transaction() as conn:
            await tokens.expire(conn, EXPIRE_AT_ONCE)


def _user_id(text: str) -> UUID:
    found = parse_uuid(text)
    if found is None:
        raise NotFound("User not found")
    return found


async def _load_accounts(conn: Connection, ids: Sequence[UUID]) -> Mapping[str, Account]:
    rows = await accounts.load_accounts(conn, ids)
    live = _by_user(await sessions.load_sessions(conn, ids))
    return {str(row.id): Account(row, {each.id: each for each in live[row.id]}) for row in rows}


async def _load_libraries(conn: Connection, ids: Sequence[UUID]) -> Mapping[str, Library]:
    found = {user_id: Library.empty(user_id) for user_id in ids}
    settings = {row.user_id: row for row in await lists.load_settings(conn, ids)}
    watched = _by_user(await lists.load_watchlists(conn, ids))
    views = _by_user(await lists.load_views(conn, ids))
    removed = _by_user(await lists.load_removed(conn, ids))
    return {
        f"{_LIBRARY}{user_id}": Library(
            user_id,
            settings.get(user_id, empty.settings),
            {each.symbol: each for each in watched[user_id]},
            {each.id: each for each in views[user_id]},
            {name: tuple(each.item for each in removed[user_id] if each.list == name) for name in empty.removed},
        )
        for user_id, empty in found.items()
    }


def _by_user(rows: Iterable[Any]) -> Mapping[UUID, list[Any]]:
    grouped: dict[UUID, list[Any]] = defaultdict(list)
    for row in rows:
        grouped[row.user_id].append(row)
    return grouped
