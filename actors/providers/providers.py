"""The actor `providers/{k}`: track records projected from the feed, followers, profiles."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from uuid import UUID

import asyncpg

from actors._runtime.commands import Apply, write_batch
from actors._runtime.context import ActorContext, Behaviour
from actors._runtime.messages import Envelope, Message
from actors.providers.events import RecordChange, notify
from actors.providers.following import Ledger
from actors.providers.log_consumer import LogConsumer
from actors.providers.messages import Become, EditProvider, Follow, SetNotify, Unfollow
from actors.providers.naming import check_name
from actors.providers.nights import Nights
from actors.providers.profile import NAME_TAKEN, become, edit
from actors.providers.record import figures_of
from config.clock import now
from config.ids import parse_uuid
from db._postgres import Connection
from db.providers import follows, profiles, records
from db.providers.records import RecordRow
from schemas.errors import AppError, Conflict, NotFound

_FOLLOWING = (Follow, Unfollow, SetNotify)


class Providers(Behaviour):
    """Owns its providers' records, outcomes, streaks, followers and profiles.

    Success: what was answered, and every signal up to the stored offset, is committed. A crash loses nothing but events
    for other actors, which the next events replace. Repeating is harmless: commands carry ids, and a record knows the
    newest signal that is in it.
    """

    async def start(self, context: ActorContext) -> None:
        """Start the feed consumer."""
        await super().start(context)
        # One at a time: pages of the feed and batches of commands change the same rows, and each takes milliseconds.
        self._turn = asyncio.Lock()
        self.log_consumer = LogConsumer(context, self._turn, self._notify)
        self.log_consumer.start()
        self.nights = Nights(context)
        self.nights.start()

    def stats(self) -> Mapping[str, float]:
        """See Behaviour."""
        return self.log_consumer.stats

    async def process(self, batch: Sequence[Envelope]) -> Sequence[object]:
        """See Behaviour."""
        attempts: list[_Commands] = []

        def attempt() -> Apply:
            attempts.append(_Commands())
            return attempts[-1].apply

        async with self._turn:
            try:
                replies = await write_batch(self.context.fence, batch, attempt)
            finally:
                self.log_consumer.forget(each for done in attempts for each in done.changes)
            self._notify(attempts[-1].changes.values(), attempts[-1].first)
        return replies

    def _notify(self, changes: Iterable[RecordChange], first_follows: Mapping[UUID, datetime] | None = None) -> None:
        notify(self.context, changes, first_follows or {}, now())


class _Commands:
    """One attempt at a batch of commands; `changes` are to records, `first` the first follows ever, by user."""

    def __init__(self) -> None:
        self.changes: dict[UUID, RecordChange] = {}
        self.first: dict[UUID, datetime] = {}

    async def apply(self, conn: Connection, batch: Sequence[Envelope]) -> list[object]:
        """Return the answers, errors as values; a command that raised has changed nothing."""
        replies: list[object] = []
        for is_following, run in groupby(batch, lambda each: isinstance(each.message, _FOLLOWING)):
            if is_following:
                replies += await self._follow(conn, list(run))
                continue
            for each in run:
                try:
                    await self._profile(conn, _id(each.key), each.message)
                    replies.append(None)
                except AppError as error:
                    replies.append(error)
        return replies

    async def _follow(self, conn: Connection, batch: Sequence[Envelope]) -> list[object]:
        commands = [(_id(each.key), each.message) for each in batch if isinstance(each.message, _FOLLOWING)]
        pairs = {(message.follower_id, provider) for provider, message in commands}
        counting = {message.follower_id for _, message in commands if not isinstance(message, SetNotify)}
        ledger = Ledger(
            # The locks come first: until then another owner may change the counts.
            followings=await follows.lock_followings(conn, list(counting)) if counting else (),
            records=await records.load_records(conn, list({provider for provider, _ in commands})),
            follows=await follows.load_follows(conn, list(pairs)),
        )
        replies: list[object] = []
        for provider, message in commands:
            try:
                replies.append(ledger.decide(provider, message))
            except AppError as error:
                replies.append(error)
        await self._save(conn, ledger)
        return replies

    async def _save(self, conn: Connection, ledger: Ledger) -> None:
        kept = [row for pair in ledger.touched if (row := ledger.follows[pair]) is not None]
        if gone := [pair for pair in ledger.touched if ledger.follows[pair] is None]:
            await follows.delete_follows(conn, gone)
        if kept:
            await follows.upsert_follows(conn, kept)
        if ledger.changes:
            after = {each.provider_id: ledger.records[each.provider_id] for each in ledger.changes}
            await follows.insert_changes(conn, ledger.changes)
            await follows.update_followings(conn, list(ledger.followings.values()))
            await records.upsert_records(conn, [(each, figures_of(each)) for each in after.values()])
            for provider_id, record in after.items():
                known = self.changes.get(provider_id)
                self.changes[provider_id] = RecordChange(known.before if known else ledger.before[provider_id], record)
        self.first |= ledger.first

    async def _profile(self, conn: Connection, user_id: UUID, message: Message[object]) -> None:
        known = (await profiles.load_profiles(conn, [user_id])).get(user_id)
        if isinstance(message, Become):
            row = become(known, user_id, message)
        else:
            assert isinstance(message, EditProvider)
            row = edit(known, message)
        if row == known:
            return
        if known is None or row.display_name != known.display_name:
            await check_name(conn, row, message.at)
        try:
            async with conn.transaction():
                await profiles.upsert_profile(conn, row)
        except asyncpg.UniqueViolationError:  # taken by another owner's transaction that has just ended
            raise Conflict(NAME_TAKEN) from None
        if known is None:
            record = RecordRow(user_id, is_system=False)
            await records.upsert_records(conn, [(record, figures_of(record))])
            self.changes[user_id] = RecordChange(None, record)


def _id(key: str) -> UUID:
    found = parse_uuid(key)
    if found is None:
        raise NotFound("Provider not found")
    return found
