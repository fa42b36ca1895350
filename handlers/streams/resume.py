"""Find the offset of a session that resumes: any session, on any gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from handlers.streams.checkpoints import Checkpoint, Seeker, floor_checkpoint, pack_checkpoints, unpack_checkpoints
from handlers.streams.connections import EVENT_ID
from handlers.streams.fanout import Fanout
from handlers.streams.history import History
from handlers.streams.holders import Claimant, Holders
from handlers.streams.records import SessionRecord
from handlers.streams.ring import Ring
from handlers.streams.sessions import SessionStore
from handlers.streams.source import Source
from schemas.errors import Unavailable
from schemas.stream import SignalFilter, Viewer

ATTEMPTS = 3  # another connection of the same client may be taking the session over at the same moment
CATCH_UP_SECONDS = 1.5  # for this process's own fan-out to reach the offset that the client has reached elsewhere


@dataclass(frozen=True, slots=True)
class StreamSession:
    """A stream that has been admitted. Its first event is number n + 1, and its checkpoints end with that event's."""

    viewer: Viewer
    filter: SignalFilter
    session: bytes
    n: int
    cursor: int
    epoch: int
    checkpoints: list[Checkpoint]
    resume_error: str | None = None  # why it does not continue after the event that was asked for

    @property
    def is_resumed(self) -> bool:
        """Whether it continues an earlier stream."""
        return self.n > 0

    def record(self) -> SessionRecord:
        """Return the record to store from the start."""
        return SessionRecord(
            self.epoch,
            self.checkpoints[-1][0],
            self.viewer.user_id or "",
            self.filter,
            pack_checkpoints(self.checkpoints),
        )


@dataclass(frozen=True, slots=True)
class Anew:
    """A new session must begin: `error` says why none is resumed, `cursor` where it starts, if not at the end."""

    error: Literal["unknown", "expired", "identity"] | None = None
    cursor: int | None = None


class Resumer:
    """Looks sessions up and takes them over."""

    def __init__(
        self,
        fanout: Fanout,
        ring: Ring,
        history: History,
        source: Source,
        store: SessionStore,
        holders: Holders,
    ) -> None:
        self._fanout = fanout
        self._ring = ring
        self._history = history
        self._source = source
        self._store = store
        self._holders = holders

    @staticmethod
    def parse(last_event_id: str | None) -> tuple[bytes, int]:
        """Return the session and the number in an event's id; empty and 0 for what is none."""
        match = EVENT_ID.fullmatch(last_event_id or "")
        return (match[1].encode(), int(match[2])) if match else (b"", 0)

    async def resume(
        self, viewer: Viewer, wanted: SignalFilter, last_event_id: str | None, *, is_reconnect: bool
    ) -> StreamSession | Anew:
        """Return the stream that resumes after an event, claimed until `release`, or why a new one begins.

        A session that another client holds is left alone: a new one begins, after the same event. Raises
        DatabaseUnavailable where the offset must be looked up in Postgres.
        """
        session, n = self.parse(last_event_id)
        if not session:
            return Anew("unknown" if last_event_id else None)
        claimant, cursor = Claimant(session, n, is_reconnect), None
        for _ in range(ATTEMPTS):
            record = await self._store.load(session)
            if record is None:
                return Anew("expired" if await self._store.was_there(session) else "unknown")
            if record.owner != (viewer.user_id or ""):
                return Anew("identity")
            checkpoints = unpack_checkpoints(record.checkpoints)
            cursor = await self._locate(checkpoints, n, record.filter)
            if cursor is None:
                return Anew("expired" if checkpoints and n < checkpoints[0][0] else "unknown")
            if await self._holders.is_held(claimant, record.holder) or not self._holders.claim(session):
                return Anew("identity", cursor)
            # Checkpoints count under the filter that was in force: under another one the earlier ones say nothing.
            kept = [checkpoint for checkpoint in checkpoints if checkpoint[0] < n] if record.filter == wanted else []
            opened = StreamSession(
                viewer, wanted, session, n, cursor, record.epoch + 1, [*kept, (n, cursor), (n + 1, cursor)]
            )
            if await self._takes_over(opened):
                return opened
        return Anew("identity", cursor)

    async def _takes_over(self, opened: StreamSession) -> bool:
        try:
            refused = await self._store.save([(opened.session, opened.record())], take_over=True)
        except BaseException:
            self._holders.release(opened.session)
            raise
        if refused:
            self._holders.release(opened.session)
        return not refused

    async def _locate(self, checkpoints: Sequence[Checkpoint], n: int, wanted: SignalFilter) -> int | None:
        # The offset of a client that has received event n; None if there has been no such event.
        checkpoint = floor_checkpoint(checkpoints, n)
        if checkpoint is None:
            return None
        k, place = n - checkpoint[0], checkpoint[1]
        cursor = place if k == 0 else await self._seek(place, Seeker(k, wanted.predicate()), k)
        if cursor is not None and cursor > self._ring.last:  # another gateway is ahead of this one
            await self._source.sync()
        if cursor is None or cursor > self._ring.last:
            return None
        await self._reach(cursor)
        return cursor

    async def _seek(self, place: int, seeker: Seeker, k: int) -> int | None:
        is_synced = False
        while True:
            if place + k > self._ring.last and is_synced:
                return None
            chunk = await self._history.after(place, upto=self._ring.last)
            if chunk:
                found = seeker.feed(chunk)
                if found is not None:
                    return found
                place = chunk[-1].feed_seq
            elif is_synced:
                return None
            else:
                await self._source.sync()
                is_synced = True

    async def _reach(self, cursor: int) -> None:
        # A stream must not start past the fan-out's own offset: it would be sent again what it has.
        try:
            async with asyncio.timeout(CATCH_UP_SECONDS):
                await self._fanout.reach(cursor)
        except TimeoutError:
            raise Unavailable("The feed is catching up") from None
