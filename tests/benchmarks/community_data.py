"""A community in Postgres for benchmarks and plans: signals of many providers over months, followers, counters."""

from __future__ import annotations

from typing import Any

import asyncpg

FILL = """
INSERT INTO providers (user_id, display_name, is_system, avatar_url, bio, specialties)
SELECT ('00000000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, 'Provider ' || n, true,
       'https://img.example/' || n || '.png', 'Trading since 2017. Focus on momentum.', '{crypto,momentum}'
FROM generate_series(1, $1::int) n;
INSERT INTO provider_stats (provider_id, total_signals, win_count, loss_count, follower_count, most_followers, win_rate,
                            avg_return, total_return, sharpe_ratio, max_drawdown, current_streak, longest_streak,
                            verification_level, verified_at)
SELECT user_id, 100, 60, 20, (n * 7919) % 12400, 12400, 0.75, 0.0423, 2.45, 1.82, 0.15, n % 15, 28, 'pro', now()
FROM (SELECT user_id, row_number() OVER (ORDER BY user_id) n FROM providers) p;
INSERT INTO signals (id, feed_seq, provider_id, asset_type, asset_category, symbol, action, event_type, direction,
                     entry_price, size, score, tier, confidence, factors, strategy_breakdown, market_context, reasoning,
                     asset_data, feed_data, created_at)
SELECT id, n, provider_id, asset_type, category, symbol, action, 'OPEN_SIGNAL', 'long', 67420, 0.1, score, 'GOOD', 0.82,
       '{"confidence": {"value": 0.82, "contribution": 20.5}}', '[{"name": "RSI_REVERSAL", "signal": "BUY"}]',
       '{"current_price": 2345.67, "price_change_1h": 0.023}', 'RSI oversold bounce. 4/5 strategies agree.',
       '{"price": 67420.5, "price_change_24h": 0.032}',
       '{"id":"' || id || '","asset_type":"' || asset_type || '","asset_category":"' || category || '","symbol":"'
       || symbol || '","action":"' || action || '","score":' || score
       || ',"reasoning":"RSI oversold bounce. 4/5 strategies agree.","provider":{"id":"' || provider_id
       || '","name":"x","avatar_url":null,"win_rate":null,"followers":0,"verified":false}'
       || ',"asset_data":{"price":67420.5,"price_change_24h":0.032},"reactions":{},"comment_count":0,"created_at":"'
       || to_char(at, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') || '","price":67420.5}', at
FROM (
    SELECT n, ('01' || lpad(to_hex(n), 10, '0') || '70008000' || lpad(to_hex(n), 12, '0'))::uuid AS id,
           ('00000000-0000-7000-8000-' || lpad((1 + (n * 7919) % $1)::text, 12, '0'))::uuid AS provider_id,
           t.asset_type, t.category, 'SYM' || n % 500 || CASE WHEN n % 3 = 0 THEN '/USD' ELSE '' END AS symbol,
           CASE WHEN n % 100 = 0 THEN 'yes' WHEN n % 2 = 0 THEN 'buy' ELSE 'sell' END AS action,
           (n * 31) % 101 AS score, '2026-01-01'::timestamptz + n * interval '1 minute' AS at
    FROM generate_series(1, $2::bigint) n,
         LATERAL (SELECT CASE WHEN n % 100 = 0 THEN 'prediction' WHEN n % 10 = 1 THEN 'stock' WHEN n % 10 = 2
                              THEN 'option' WHEN n % 10 = 3 THEN 'forex' ELSE 'crypto' END AS asset_type,
                         CASE WHEN n % 100 = 0 THEN 'prediction' WHEN n % 10 IN (1, 2) THEN 'equities' WHEN n % 10 = 3
                              THEN 'forex' ELSE 'crypto' END AS category) t
) s;
UPDATE feed_counter SET last_seq = $2::bigint;
INSERT INTO signal_counters SELECT id, feed_seq % 50, feed_seq % 3, 0, 0, feed_seq % 7 FROM signals
WHERE feed_seq % 2 = 0
"""
VACUUM = ("signals", "providers", "provider_stats", "signal_counters")


async def fill(conn: asyncpg.Connection[Any], *, providers: int, signals: int) -> None:
    """Insert so many providers, and signals spread over all of them; a minute apart, the last one the newest."""
    for statement in FILL.split(";\n"):
        text = statement.replace("$1", str(providers)).replace("$2", str(signals))
        await conn.execute(text)
    for table in VACUUM:
        await conn.execute(f"VACUUM ANALYZE {table}")
