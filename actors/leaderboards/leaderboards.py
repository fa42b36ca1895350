"""The actor `leaderboards`: ranks all providers by the records that their owners send."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, timedelta
from uuid import UUID

from actors._runtime.context import ActorContext, Behaviour
from actors._runtime.messages import Envelope, Message
from actors.leaderboards.messages import PositionOf, Ranking, RankRecords, Top
from actors.leaderboards.night import night_of
from actors.leaderboards.rankings import Rankings
from actors.leaderboards.refreshing import Refreshing
from actors.leaderboards.totals import BoardTotals
from config.clock import now
from db import _board_nights as nights
from db import leaderboards as sql
from db._postgres import transaction
from db.leaderboards import BoardRecord, TotalsRow
from schemas.errors import InvalidQuery, Unavailable

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0  # also the delay after a start, so that waiting messages are answered first
COMPARE_SECONDS = 300.0  # longest time that a lost message is missed; reads each record: 0.3 s per 100 000
NIGHT_SECONDS = 15.0  # between two looks whether a day has ended for every provider: two reads of one row
REREAD = 200  # providers in one query: some 20 ms
READ_SECONDS = 60.0  # for all providers: read a page at a time, while messages are answered in between


class Leaderboards(Behaviour):
    """Owns the rankings: all boards, all periods.

    Success: a record is ranked before its message is answered. Of that nothing is saved: a crash loses nothing, since
    the actor starts from the hourly copy, brought up to date with the records of that moment. The boards of skill are
    saved, one night in one transaction; one that was missed is made up for. Repeating is harmless: records are
    absolute, and a night that is stored is never changed.
    """

    async def start(self, context: ActorContext) -> None:
        """Read the copy, and re-read the providers that changed since; no message is answered before that is done."""
        await super().start(context)
        async with context.connection() as conn:
            self._rankings = Rankings(now(), await sql.load_newest_seq(conn))
        self._doubtful: dict[UUID, None] = {}  # providers whose best runs must be re-read; in order of arrival
        self._moved: set[UUID] = set()  # providers that changed since the read under way began
        self._rereading = asyncio.Lock()
        self._refreshing = Refreshing()
        async with transaction(context.pool, deadline_seconds=READ_SECONDS) as conn:
            async for page in sql.load_copy(conn):
                self._rankings.fill(map(BoardTotals, page))
        await self._compare()
        context.every(LOOK_SECONDS, self._look_after_copy, name="refresh the copy")
        context.every(COMPARE_SECONDS, self._compare, name="compare with the records")
        context.every(NIGHT_SECONDS, self._look_after_night, name="compute the boards of skill")

    def stats(self) -> Mapping[str, float]:
        """See Behaviour."""
        return {"providers": len(self._rankings), "doubtful": len(self._doubtful)}

    async def process(self, batch: Sequence[Envelope]) -> Sequence[object]:
        """See Behaviour."""
        return [self._answer(each.message) for each in batch]

    def _answer(self, message: Message[object]) -> object:
        if isinstance(message, RankRecords):
            self._rankings.history.advance(message.as_of, time.monotonic())
            self._take(message.records)
            return None
        try:
            if isinstance(message, Top):
                return self._page(message)
            assert isinstance(message, PositionOf)
            return self._rankings.position(message.board, message.period, message.provider_id, message.as_of)
        except InvalidQuery as error:
            return error

    def _page(self, message: Top) -> Ranking:
        board, period, rankings = message.board, message.period, self._rankings
        entries = rankings.top(board, period, message.limit, message.offset, message.as_of)
        as_of = message.as_of
        if as_of is None or as_of > rankings.history.as_of:
            as_of = rankings.show(board, period)
        return Ranking(entries, rankings.changed_at(board, period), as_of)

    def _take(self, records: Iterable[BoardRecord]) -> None:
        at = now()
        for record in records:
            self._moved.add(record.provider_id)
            if not self._rankings.take(record, at):
                self._doubtful[record.provider_id] = None
        if self._doubtful and not self._rereading.locked():  # the holder of the lock resolves the rest
            self.context.spawn(self._try_to_reread(), name="read anew")

    async def _try_to_reread(self) -> None:
        try:
            await self._reread()
        except Unavailable as error:
            log.info("%d providers are read anew later: %s", len(self._doubtful), error)

    async def _reread(self) -> None:
        """Re-read the providers whose best runs cannot be derived from their records."""
        async with self._rereading:
            while self._doubtful:
                ids = list(self._doubtful)[:REREAD]
                self._moved.clear()
                async with self.context.connection() as conn:
                    rows = await sql.load_totals(conn, ids)
                for provider_id in ids:
                    if provider_id not in self._moved:  # else what was read may be older than the message
                        del self._doubtful[provider_id]
                self._put(rows)

    def _put(self, rows: Iterable[TotalsRow]) -> None:
        at = now()
        for row in rows:
            if row.provider_id not in self._moved:
                self._rankings.put(BoardTotals(row), at)

    async def _compare(self) -> None:
        """Find changes whose message was lost or never sent."""
        known, missed = self._rankings, 0
        async with self._rereading, transaction(self.context.pool, deadline_seconds=READ_SECONDS) as conn:
            self._moved.clear()
            async for page in sql.load_records(conn):
                for record in page:
                    if record.provider_id not in self._moved and not known.is_known(record):
                        self._doubtful[record.provider_id] = None
                        missed += 1
        if missed:
            log.info("%d providers have moved since they were ranked", missed)
        await self._reread()

    async def _look_after_copy(self) -> None:
        """Refresh the copy when that is due; one task calls it, so never two at once."""
        if not self._refreshing.may_look(time.monotonic()):
            return
        async with self.context.connection(deadline_seconds=READ_SECONDS) as conn:
            lag = await sql.load_lag(conn)
        if not self._refreshing.is_due(lag.age_seconds, lag.drift):
            return
        started = time.monotonic()
        try:
            async with self.context.connection(deadline_seconds=None) as conn:
                is_made = await sql.refresh(conn)
            if not is_made:  # another process is refreshing, perhaps the previous one; its copy must be read too
                self._refreshing.failed(time.monotonic())
                return
            await self._move_on()
        except Exception:
            self._refreshing.failed(time.monotonic())
            raise
        ended = time.monotonic()
        self._refreshing.succeeded(ended, ended - started)
        log.info("the copy has been made anew in %.1f s: %.0f %% of it was missing", ended - started, 100 * lag.drift)

    async def _move_on(self) -> None:
        """Move the windows on, by the new copy."""
        async with self._rereading, transaction(self.context.pool, deadline_seconds=READ_SECONDS) as conn:
            self._moved.clear()
            async for page in sql.load_copy(conn):
                for row in page:
                    if row.provider_id not in self._doubtful and not self._rankings.is_known(BoardTotals(row).record):
                        self._doubtful[row.provider_id] = None
                self._put(row for row in page if row.provider_id not in self._doubtful)
        await self._reread()

    async def _look_after_night(self) -> None:
        """Compute the boards of the newest day that has ended for every provider, unless that is done."""
        async with self.context.connection() as conn:
            reached_at = await nights.load_reached_at(conn)
            if reached_at is None:
                return
            midnight = reached_at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
            day = midnight.date() - timedelta(days=1)
            newest = await nights.load_newest_day(conn)
            if (newest is not None and newest >= day) or not await nights.have_all_read(conn, midnight):
                return
        started = time.monotonic()
        async with self.context.transaction(deadline_seconds=READ_SECONDS) as conn:
            stats = await nights.load_stats(conn)
            # In a thread: messages are answered meanwhile.
            night, candidates = await asyncio.to_thread(night_of, day, stats, now())
            await nights.insert_night(conn, night, candidates)
        log.info("%s: %d of %d are listed, in %.1f s", day, night.listed, night.eligible, time.monotonic() - started)
