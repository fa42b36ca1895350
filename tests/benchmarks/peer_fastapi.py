"""The same reads in FastAPI, asyncpg and pydantic on the same tables, as a peer to compare with.

    python -m tests.benchmarks.peer_fastapi DSN PORT

One process under uvicorn with uvloop and httptools, without an access log. The total of the list is counted as ours is
(db/_totals.py): counting 100 000 rows for each request would decide the comparison alone.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import uvicorn
from fastapi import FastAPI, HTTPException, Query, Request
from pydantic import BaseModel

from db._postgres import create_pool
from db._totals import Totals
from db._where import WHERE, Condition, filtered

LIST = f"""
SELECT s.id, s.asset_type, s.asset_category, s.symbol, s.action, s.score, s.reasoning, s.asset_data, s.created_at,
       p.user_id, p.display_name, p.avatar_url, t.win_rate, t.follower_count, t.verification_level,
       c.likes, c.fires, c.rockets, c.sads, c.comments
FROM signals s
JOIN providers p ON p.user_id = s.provider_id
LEFT JOIN provider_stats t ON t.provider_id = s.provider_id
LEFT JOIN signal_counters c ON c.signal_id = s.id
{WHERE} ORDER BY s.created_at DESC, s.id DESC LIMIT $1 OFFSET $2
"""
PROFILE = """
SELECT p.*, t.*, coalesce(l.likes, 0) AS signal_likes_total
FROM providers p
LEFT JOIN provider_stats t ON t.provider_id = p.user_id
LEFT JOIN provider_likes l ON l.provider_id = p.user_id
WHERE p.user_id = $1
"""
BOARD = """
SELECT p.user_id, p.display_name, p.avatar_url, t.verification_level, b.followers, b.week_follows
FROM leaderboard b JOIN providers p ON p.user_id = b.provider_id
JOIN provider_stats t ON t.provider_id = b.provider_id
ORDER BY b.followers DESC, b.total_signals DESC, b.provider_id LIMIT $1
"""
KINDS = {"like": "likes", "fire": "fires", "rocket": "rockets", "sad": "sads"}


class Card(BaseModel):
    id: UUID
    name: str
    avatar_url: str | None
    win_rate: int | None
    followers: int
    verified: bool


class Signal(BaseModel):
    id: UUID
    asset_type: str
    asset_category: str
    symbol: str
    action: str
    score: int
    reasoning: str
    provider: Card
    asset_data: dict[str, Any]
    reactions: dict[str, int]
    comment_count: int
    created_at: datetime


class Page(BaseModel):
    signals: list[Signal]
    total: int
    limit: int
    offset: int


class Stats(BaseModel):
    total_signals: int
    win_count: int
    loss_count: int
    win_rate: float | None
    avg_return: float | None
    total_return: float
    sharpe_ratio: float | None
    max_drawdown: float
    current_streak: int
    longest_streak: int
    follower_count: int
    signal_likes_total: int


class Profile(BaseModel):
    user_id: UUID
    display_name: str
    bio: str | None
    strategy_description: str | None
    avatar_url: str | None
    banner_url: str | None
    website_url: str | None
    twitter_handle: str | None
    risk_level: str | None
    specialties: list[str]
    stats: Stats
    is_verified: bool
    verification_level: str
    verified_at: datetime | None
    recent_signals: list[Signal]
    is_following: bool
    created_at: datetime


class Ranked(BaseModel):
    user_id: UUID
    display_name: str
    avatar_url: str | None
    is_verified: bool


class Entry(BaseModel):
    rank: int
    provider: Ranked
    value: float
    change: float | None
    change_period: str


class Board(BaseModel):
    leaderboard: str
    period: str
    entries: list[Entry]
    updated_at: datetime


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.pool = await create_pool(sys.argv[1], 10, name="peer")
    app.state.totals = Totals()
    yield
    await app.state.pool.close()


app = FastAPI(lifespan=lifespan)


def signal_of(row: Any) -> Signal:
    return Signal(
        id=row["id"],
        asset_type=row["asset_type"],
        asset_category=row["asset_category"],
        symbol=row["symbol"],
        action=row["action"],
        score=row["score"],
        reasoning=row["reasoning"],
        provider=Card(
            id=row["user_id"],
            name=row["display_name"],
            avatar_url=row["avatar_url"],
            win_rate=None if row["win_rate"] is None else round(row["win_rate"] * 100),
            followers=row["follower_count"] or 0,
            verified=(row["verification_level"] or "none") != "none",
        ),
        asset_data=row["asset_data"],
        reactions={kind: row[name] for kind, name in KINDS.items() if row[name]},
        comment_count=row["comments"] or 0,
        created_at=row["created_at"],
    )


@app.get("/api/signals")
async def signals(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
    offset: Annotated[int, Query(ge=0)] = 0,
    symbol: str | None = None,
    action: Literal["buy", "sell", "hold", "yes", "no"] | None = None,
    min_score: Annotated[int | None, Query(ge=0, le=100)] = None,
    provider_id: UUID | None = None,
) -> Page:
    given = {"s.symbol": symbol, "s.action": action, "s.provider_id": provider_id}
    conditions: list[Condition] = [(f"{name} = {{}}", value) for name, value in given.items() if value is not None]
    if min_score is not None:
        conditions.append(("s.score >= {}", min_score))
    statement, values = filtered(LIST, conditions, first=3)
    async with request.app.state.pool.acquire() as conn:
        total = await request.app.state.totals.count_dense(conn, "signals s", "feed_seq", conditions)
        rows = await conn.fetch(statement, limit, offset, *values)
    return Page(signals=[signal_of(row) for row in rows], total=total, limit=limit, offset=offset)


@app.get("/api/providers/{provider_id}")
async def profile(request: Request, provider_id: UUID) -> Profile:
    statement, values = filtered(LIST, [("s.provider_id = {}", provider_id)], first=3)
    async with request.app.state.pool.acquire() as conn:
        row = await conn.fetchrow(PROFILE, provider_id)
        if row is None:
            raise HTTPException(404, "Provider not found")
        recent = await conn.fetch(statement, 10, 0, *values)
    found = dict(row)
    return Profile(
        **found
        | {
            "stats": Stats(**found),
            "is_verified": found["verification_level"] != "none",
            "recent_signals": [signal_of(each) for each in recent],
            "is_following": False,
        }
    )


@app.get("/api/leaderboards/followers")
async def followers(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
    period: Literal["all", "month", "week"] = "all",
) -> Board:
    async with request.app.state.pool.acquire() as conn:
        rows = await conn.fetch(BOARD, limit)
        at = await conn.fetchval("SELECT at FROM leaderboard LIMIT 1")
    entries = [
        Entry(
            rank=rank,
            provider=Ranked(
                user_id=row["user_id"],
                display_name=row["display_name"],
                avatar_url=row["avatar_url"],
                is_verified=row["verification_level"] != "none",
            ),
            value=row["followers"],
            change=row["week_follows"],
            change_period="week",
        )
        for rank, row in enumerate(rows, start=1)
    ]
    return Board(leaderboard="followers", period=period, entries=entries, updated_at=at)


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), loop="uvloop", http="httptools", access_log=False)
