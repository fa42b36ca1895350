"""Append to the log all that is due, in its order: feed items, what the market's minutes ended, and hours.

An item that was received after an hour comes after the mark of that hour; one that is late belongs to the present day.
The source of prices is asked between transactions, never within one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import asyncpg

from actors._follower import PageSize
from actors._runtime.context import ActorContext
from actors.ledger.feed_step import append_items, check_before_close, minutes_before_closes
from actors.ledger.hour_step import end_hour, question_for
from actors.ledger.log_time import HOUR, full_hour, next_mark
from actors.ledger.market import Answers, Question
from actors.ledger.minutes_step import check_minutes
from actors.ledger.open_log import OpenLog
from actors.ledger.splits import SplitsFile
from db import ledger as sql
from db._postgres import Connection
from db._redis import REDIS_ERRORS
from db.signals.log_source import FeedEntry, read_feed
from schemas.feed import LOG_CHANNEL

log = logging.getLogger(__name__)

PAGE = 500  # feed items of one transaction
TRANSACTION_SECONDS = 30.0
STEPS_SECONDS = 1.0  # after which a transaction with more to do is committed
GRACE: Final = timedelta(seconds=3)
"""How long after an hour it is marked where no item of the feed asks for it: the candle before it has to be there."""
BACKFILL_SECONDS = 30.0
"""After a signal of the past, how long the log's time waits for more of them instead of going on to the present."""

# Errors which mean that this item cannot be an entry, not that the server is in trouble.
_UNFIT = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, ArithmeticError, ValueError)


@dataclass(slots=True)
class _Done:
    """The work of one transaction, and the question before the next."""

    came: int = 0  # items of the feed that it appended
    has_more: bool = False
    question: Question | None = None


class LogKeeper:
    """Keeps the log up to date, for its one owner."""

    def __init__(self, context: ActorContext, market: Answers, splits: SplitsFile, now: Callable[[], datetime]) -> None:
        self._context = context
        self._market = market
        self._splits = splits
        self._now = now
        self._page = PageSize(PAGE)
        self._turn = asyncio.Lock()
        self._past_until = 0.0  # monotonic seconds
        self.log: OpenLog | None = None  # None: to be read from Postgres

    @property
    def stats(self) -> Mapping[str, float]:
        """Return how far the log has come, and what it watches."""
        log = self.log
        if log is None:
            return {}
        behind = 0.0 if log.reached_at is None else (self._now() - log.reached_at).total_seconds()
        return {
            "size": log.size,
            "feed_seq": log.feed_seq,
            "open_positions": log.open_count,
            "instruments": len(log.watched),
            "ends": log.ends,
            "marked_seconds_ago": behind if log.open_count else 0.0,
            "market_failures": self._market.failures,
        }

    async def catch_up(self) -> int:
        """Append all that is due; return how many feed items came last. Raises DatabaseUnavailable, Fenced."""
        came = 0
        async with self._turn:
            while True:
                done = await self._transaction()
                came = done.came or came
                if done.question:
                    await self._market.ask(done.question)
                elif not done.has_more:
                    return came

    async def _transaction(self) -> _Done:
        page: Sequence[FeedEntry] = ()
        before = None if self.log is None else self.log.size
        try:
            async with self._context.transaction(deadline_seconds=TRANSACTION_SECONDS) as conn:
                if self.log is None:
                    self.log = await OpenLog.load(conn)
                    self._note_past(is_past=await sql.is_of_the_past(conn, self.log.feed_seq))
                    before = self.log.size
                page = await read_feed(conn, self.log.feed_seq, self._page.now)
                done = await self._steps(conn, self.log, page)
        except _UNFIT as error:
            self.log = None
            if not page or not self._page.halve():
                await self._skip(page, error)
            return _Done(has_more=True)
        except BaseException:
            self.log = None  # the transaction may have been committed all the same: Postgres holds the truth
            raise
        self._page.restore()
        if self.log.size != before:
            await self._announce()
        return done

    async def _steps(self, conn: Connection, open_log: OpenLog, page: Sequence[FeedEntry]) -> _Done:
        """Do one thing after the other, until something has to be asked or enough is done for one transaction."""
        done, started = _Done(), time.monotonic()
        is_full = len(page) == self._page.now
        while time.monotonic() - started < STEPS_SECONDS:
            until = page[0].received_at if page else None if is_full else self._present(open_log)
            hour = until and next_mark(
                open_log.reached_at, until, is_open=open_log.open_count > 0, is_day_open=open_log.is_day_open
            )
            if hour is not None:
                done.question = question_for(open_log, self._market, hour, self._now())
                if done.question:
                    return done
                await end_hour(conn, open_log, self._market, self._splits.splits, hour, self._now())
            elif page:
                taken = await self._take(conn, open_log, page, done)
                done.came += taken
                page = page[taken:]
                if done.question:
                    return done
            elif is_full:
                break
            else:
                if until is not None:
                    await self._check_known_minutes(conn, open_log)
                return done
        done.has_more = True
        return done

    async def _take(self, conn: Connection, open_log: OpenLog, page: Sequence[FeedEntry], done: _Done) -> int:
        """Append the items of an hour, up to a close before which the market's minutes have to be looked at."""
        hour = full_hour(page[0].received_at)
        if open_log.reached_at is None or hour > open_log.reached_at:
            await open_log.reach(conn, hour, is_marked=False)
        assert open_log.reached_at is not None
        end = open_log.reached_at + HOUR
        count = next((place for place, item in enumerate(page) if item.received_at >= end), len(page))
        items = page[:count]
        done.question, ends = minutes_before_closes(open_log, self._market, items)
        if done.question:
            return 0
        await check_minutes(conn, open_log, self._market, ends)
        taken = await append_items(conn, open_log, self._market, items)
        if taken:
            self._note_past(is_past=items[taken - 1].way_in == "backfill")
        if taken < len(items):
            done.question = await check_before_close(conn, open_log, self._market, items[taken])
        return taken

    def _note_past(self, *, is_past: bool) -> None:
        self._past_until = time.monotonic() + BACKFILL_SECONDS if is_past else 0.0

    def _present(self, open_log: OpenLog) -> datetime | None:
        """Return the time that the log may go on to without an item of the feed; None: it waits for those."""
        if time.monotonic() < self._past_until and self._is_behind(open_log):
            return None
        return self._now() - GRACE

    def _is_behind(self, open_log: OpenLog) -> bool:
        return open_log.reached_at is not None and self._now() - open_log.reached_at >= 2 * HOUR

    async def _check_known_minutes(self, conn: Connection, open_log: OpenLog) -> None:
        if open_log.reached_at is None:
            return
        end = full_hour(self._now()) + HOUR
        fresh = self._market.take_fresh() & open_log.watched.keys()
        await check_minutes(conn, open_log, self._market, dict.fromkeys(fresh, end))

    async def _skip(self, page: Sequence[FeedEntry], error: Exception) -> None:
        if not page:
            raise error
        log.error(
            "%s leaves out feed item %d, which cannot be an entry", self._context.name, page[0].feed_seq, exc_info=error
        )
        async with self._context.transaction() as conn:
            await sql.skip_item(conn, page[0].feed_seq)

    async def _announce(self) -> None:
        try:
            await self._context.redis.publish(LOG_CHANNEL, b"")
        except REDIS_ERRORS as error:
            log.info("%s cannot announce the log: %s; its readers look by themselves", self._context.name, error)
