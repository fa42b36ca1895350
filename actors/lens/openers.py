"""Set the score that a stream's `min_score` is compared with: a CLOSE passes wherever the signal it closes passed."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence

from asyncpg import SerializationError

from config.values import replace
from db._postgres import Connection
from db.openers import Logged, logged_of
from db.providers.outcomes import PositionKey
from db.signals.writes import PublishedSignal, insert_next_signals, last_feed_seq, published_between


async def publish_next(conn: Connection, signals: Sequence[PublishedSignal]) -> Sequence[PublishedSignal]:
    """Store a batch of Lens as the next signals of the feed, with passing scores; return the rows.

    What a close closes is read before the feed's order is taken, so that other lanes need not wait for that. Raises
    SerializationError if one of them has published a signal of the same provider meanwhile: the batch can be retried.
    """
    closing = {each.provider_id for each in signals if _is_close(each)}
    seen = await last_feed_seq(conn) if closing else 0
    rows = await insert_next_signals(conn, await with_passing_scores(conn, signals, priced=True))
    if closing and await published_between(conn, seen, rows[0].feed_seq, closing):
        raise SerializationError("another lane has published signals of the same provider")
    return rows


async def with_passing_scores(
    conn: Connection, signals: Sequence[PublishedSignal], *, priced: bool = False
) -> Sequence[PublishedSignal]:
    """Add passing scores to a batch, in the feed's order; to be called once its `feed_seq`s are taken, if not below.

    `priced`: signals without a price get their event's in Postgres.
    """
    keys = [_position_key(each, priced) for each in signals if _is_close(each)]
    closes = Counter(key for key in keys if key is not None)
    if not closes:
        return signals
    return add_passing_scores(signals, await logged_of(conn, closes), priced=priced)


def add_passing_scores(
    signals: Sequence[PublishedSignal], logged: Mapping[PositionKey, Sequence[Logged]], *, priced: bool = False
) -> list[PublishedSignal]:
    """Return the signals with the score to filter by, where it is not their own; `logged` came before them."""
    waiting = {key: _still_open(before) for key, before in logged.items()}
    found = []
    for signal in signals:
        key = _position_key(signal, priced)
        if key is not None:
            if not _is_close(signal):
                waiting.setdefault(key, deque()).append(signal.score)
            elif scores := waiting.get(key):
                opened_with = scores.popleft()
                if opened_with > signal.score:
                    signal = replace(signal, passing_score=opened_with)
        found.append(signal)
    return found


def _still_open(logged: Sequence[Logged]) -> deque[int]:
    scores: deque[int] = deque()
    for each in logged:
        if each.opens:
            scores.append(each.score)
        elif scores:
            scores.popleft()
    return scores


def _is_close(signal: PublishedSignal) -> bool:
    return signal.event_type == "CLOSE_SIGNAL"


def _position_key(signal: PublishedSignal, priced: bool) -> PositionKey | None:
    price = signal.entry_price
    if price is None:
        return signal.position_key if priced else None
    # What closes an option or a prediction may do so at 0.
    return signal.position_key if price.is_finite() and (price > 0 or (price == 0 and _is_close(signal))) else None
