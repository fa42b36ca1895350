"""The feed's document of a signal: made once, at the publication, and cut at its keys by the SQL of lists.

The SQL depends on the order of the keys. No key can be found inside of a text: there its quotes would be escaped.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import orjson

from config.clock import rfc3339
from config.documents import Document
from db.signals.writes import ProviderSummary, PublishedSignal


def feed_document(
    signal: PublishedSignal,
    provider: ProviderSummary,
    *,
    entry_price: float | None = None,
    price: float | None = None,
) -> str:
    """Return what every stream and replay sends of a signal; the prices default to those of the signal itself."""
    if entry_price is None and signal.entry_price is not None:
        entry_price = float(signal.entry_price)
    document: Document = {
        "id": str(signal.id),
        "asset_type": signal.asset_type,
        "asset_category": signal.asset_category,
        "symbol": signal.symbol,
        "action": signal.action,
        "score": signal.score,
        "reasoning": signal.reasoning,
        "provider": {
            "id": str(provider.user_id),
            "name": provider.display_name,
            "avatar_url": provider.avatar_url,
            "win_rate": None if provider.win_rate is None else round(provider.win_rate * 100),
            "followers": provider.follower_count,
            "verified": provider.verification_level != "none",
        },
        "asset_data": signal.asset_data,
        "reactions": {},
        "comment_count": 0,
        "created_at": rfc3339(signal.created_at),
        "event_type": signal.event_type,
        "direction": signal.direction,
        "entry_price": entry_price,
        "record_price": None if signal.record_price is None else float(signal.record_price),
        "verified": signal.quote_at is not None,
        "commentary": signal.commentary,
        "received_at": rfc3339(signal.received_at),
        "retracted_at": None,  # replaced by the time when it is: see `db.signals.retractions`
    }
    if price is not None:
        document["price"] = price
    elif "price" in signal.asset_data:
        document["price"] = signal.asset_data["price"]
    return orjson.dumps(document).decode()


def retraction_document(signal_id: UUID, provider_id: UUID | str, retracted_at: datetime) -> bytes:
    """Return what every stream and replay sends of a signal's retraction."""
    return orjson.dumps(
        {"signal_id": str(signal_id), "provider_id": str(provider_id), "retracted_at": rfc3339(retracted_at)}
    )


REACTIONS = {"like": "likes", "fire": "fires", "rocket": "rockets", "sad": "sads"}
"""The kinds, in the order in which they are shown, and their columns in signal_counters."""

PROVIDER_JSON = """
    '{"id":"' || p.user_id || '","name":' || to_json(p.display_name)
    || ',"avatar_url":' || coalesce(to_json(p.avatar_url)::text, 'null')
    || ',"win_rate":' || coalesce(round(t.win_rate * 100)::text, 'null')
    || ',"followers":' || coalesce(t.follower_count, 0)
    || CASE WHEN coalesce(t.verification_level, 'none') = 'none' THEN ',"verified":false}' ELSE ',"verified":true}' END
"""
"""The card of providers `p` with provider_stats `t`."""

REACTIONS_JSON = (
    "'{' || concat_ws(',', "
    + ", ".join(f"""CASE WHEN c.{name} > 0 THEN '"{kind}":' || c.{name} END""" for kind, name in REACTIONS.items())
    + ") || '}'"
)
"""The kinds of signal_counters `c` that are not zero; all may be null."""

_TERMS_JSON = """
    ',"event_type":"' || s.event_type || '","direction":' || coalesce('"' || s.direction || '"', 'null')
    || ',"entry_price":' || CASE WHEN s.entry_price < 'Infinity' THEN trim_scale(s.entry_price)::text ELSE 'null' END
    || ',"record_price":' || coalesce(trim_scale(s.record_price)::text, 'null')
    || CASE WHEN s.quote_at IS NULL THEN ',"verified":false' ELSE ',"verified":true' END
    || {commentary} || ',"received_at":'
    || coalesce(to_char(s.received_at AT TIME ZONE 'UTC', '"\\""YYYY-MM-DD"T"HH24:MI:SS.MS"Z\\""'), 'null')
    || ',"retracted_at":'
    || coalesce(to_char(s.retracted_at AT TIME ZONE 'UTC', '"\\""YYYY-MM-DD"T"HH24:MI:SS.MS"Z\\""'), 'null')
"""
TERMS_JSON = _TERMS_JSON.format(commentary="""',"commentary":' || coalesce(to_json(s.commentary)::text, 'null')""")
"""The terms of signals `s` about the positions that they open or close, as more keys of an object."""

TERMS_JSON_BUT_COMMENTARY = _TERMS_JSON.format(commentary="''")

TODAY = """
JOIN providers p ON p.user_id = s.provider_id
LEFT JOIN provider_stats t ON t.provider_id = s.provider_id
LEFT JOIN signal_counters c ON c.signal_id = s.id
"""
"""The joins of signals `s` that the fragments above need."""

CREATED_JSON = """
    ',"created_at":"' || left(split_part(s.feed_data, ',"created_at":"', 2), 24) || '"'
"""
"""The time of publication of signals `s`, to the millisecond, as another key of an object."""

ITEM_JSON = f"""
    split_part(s.feed_data, ',"provider":{{', 1)
    || ',"provider":' || {PROVIDER_JSON}
    || ',"asset_data":' || split_part(split_part(s.feed_data, ',"asset_data":', 2), ',"reactions":{{', 1)
    || ',"reactions":' || {REACTIONS_JSON} || ',"comment_count":' || coalesce(c.comments, 0)
    || {CREATED_JSON} || {TERMS_JSON} || '}}'
"""
"""An item of a list: the document of signals `s` with today's provider, reactions and comments, without the price."""
