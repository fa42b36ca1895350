"""Append the leaves of feed items: what they open, close and take back, in one transaction with the positions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from actors.ledger.linking import Linker, closes, keys_wanted
from actors.ledger.market import Answers, MinutesWanted, Question
from actors.ledger.minutes_step import asked, check_minutes, is_quiet
from actors.ledger.open_log import OpenLog
from actors.records.entries import SignalEntry, decode
from db import ledger as sql
from db._postgres import Connection
from db.ledger import Instrument, PositionRow
from db.signals.log_source import FeedEntry

CHECK_SECONDS = 2.0  # for the candles before the closes of a page


async def append_items(conn: Connection, log: OpenLog, market: Answers, items: Sequence[FeedEntry]) -> int:
    """Append items in their order; return how many, as a close may have to wait for the minutes before it."""
    linker = await _linker(conn, items)
    taken = 0
    for item in items:
        position = linker.next_closed(item)
        if position is not None and unchecked(log, market, position, item) is not None:
            break
        linker.take(item)
        taken += 1
    if taken:
        await log.append(conn, linker.entries)
        if linker.removed:
            await sql.delete_positions(conn, linker.removed)
        changed = linker.changed.values()
        await log.change(conn, changed, linker.opened)
        await log.open(conn, linker.instruments, changed)
        log.feed_seq = items[taken - 1].feed_seq
    return taken


def unchecked(log: OpenLog, market: Answers, position: PositionRow, item: FeedEntry) -> datetime | None:
    """Return the end of the minutes that must be looked at before a signal closes a position; None: there are none.

    What a candle before the signal's minute did to the position comes first. A source that does not answer is not
    waited for.
    """
    if position.low_level is None and position.high_level is None:
        return None
    key: Instrument = (position.asset_type, position.instrument)
    until = _minute(item)
    watched = log.watched.get(key)
    since = position.watched_from if watched is None else watched.row.checked_until
    if since >= until or (watched is not None and is_quiet(market, key, watched, until)):
        return None
    return until if market.wants(key, since, until) or market.known_until(key, since) > since else None


def minutes_before_closes(
    log: OpenLog, market: Answers, items: Sequence[FeedEntry]
) -> tuple[Question, dict[Instrument, datetime]]:
    """Return what to ask before the closes among the items, and up to when to look at their instruments' minutes.

    They are looked at together up to the minute of the first item; nearly always that is all.
    """
    question, ends = Question(CHECK_SECONDS), {}
    now = _minute(items[0])
    for item in items:
        key: Instrument = (item.asset_type, item.instrument)
        watched = log.watched.get(key)
        if watched is None or not closes(item) or (watched.low_level is None and watched.high_level is None):
            continue
        until, since = _minute(item), watched.row.checked_until
        if since < until and market.wants(key, since, until) and not is_quiet(market, key, watched, until):
            question.minutes[key] = MinutesWanted(asked(watched.row), since, until)
        ends[key] = min(until, now)
    return question, ends


async def check_before_close(conn: Connection, log: OpenLog, market: Answers, item: FeedEntry) -> Question:
    """Look at the minutes before a close, or return the question for them."""
    key: Instrument = (item.asset_type, item.instrument)
    question, until, row = Question(CHECK_SECONDS), _minute(item), log.watched[key].row
    if market.wants(key, row.checked_until, until):
        question.minutes[key] = MinutesWanted(asked(row), row.checked_until, until)
    else:
        await check_minutes(conn, log, market, {key: until})
    return question


def _minute(item: FeedEntry) -> datetime:
    return item.received_at.replace(second=0, microsecond=0)


async def _linker(conn: Connection, items: Sequence[FeedEntry]) -> Linker:
    positions: dict[UUID, PositionRow] = {}
    wanted = keys_wanted(items)
    if wanted:
        positions |= {each.signal_id: each for each in await sql.oldest(conn, wanted)}
    links: dict[UUID, tuple[UUID, int]] = {}
    if retracted := [item.signal_id for item in items if item.retracted_at is not None]:
        for signal_id, leaf in (await sql.read_leaves(conn, retracted)).items():
            entry = decode(leaf)
            if isinstance(entry, SignalEntry) and entry.closes is not None:
                links[signal_id] = entry.closes, entry.part
        ids = {*retracted, *(position for position, _ in links.values())} - positions.keys()
        positions |= {each.signal_id: each for each in await sql.load_positions(conn, ids)}
    return Linker(positions.values(), links)
