"""Show achievements and streaks."""

from __future__ import annotations

import hashlib
import logging
from contextlib import suppress
from datetime import datetime

import orjson

from actors.streaks import from_row, is_alive
from actors.users.achievements import ACHIEVEMENTS, Fact, Facts, due, nearest, points
from actors.users.messages import USERS, ProviderFacts, progress_key
from config.clock import now
from config.documents import Document
from db import achievements as sql
from db._postgres import connection
from db._redis import RedisUnavailable
from db.achievements import FactsRow, UnlockedRow
from db.streaks import StreakRow, load_zones, streaks_of
from handlers._http.endpoint import endpoint, endpoint_of
from handlers._http.json import encode
from handlers.auth._account_handler import AccountHandler
from schemas._vocabulary import UserStreakType, values_of
from schemas.achievements import AchievementDefinitions, MyAchievements, MyStreaks
from schemas.errors import AppError

log = logging.getLogger(__name__)

CACHE_SECONDS = 3600
_DOCUMENT = encode(AchievementDefinitions().dump({"achievements": ACHIEVEMENTS}))
# Keyed by its content: a process that runs other code has another table.
CACHE_KEY = f"tradestream:achievements:{hashlib.sha256(_DOCUMENT).hexdigest()[:16]}"

EVERYBODY = values_of(UserStreakType)
PROVIDERS = ("login", "profitable_signal", "provider_signal", "analysis_post")


class Definitions(AccountHandler):
    """`/api/achievements`"""

    @endpoint("List what can be achieved", responds=AchievementDefinitions(), conditional=True)
    async def get(self) -> None:
        """The same for every caller, and the same until the software changes."""
        declared = endpoint_of(self.get)
        assert declared is not None
        self.answer(orjson.Fragment(await self._cached()), declared)

    async def _cached(self) -> bytes:
        redis = self.services.redis
        if redis.is_available:
            with suppress(RedisUnavailable):
                async with redis.answering():
                    if isinstance(found := await redis.get(CACHE_KEY), bytes):
                        return found
                    await redis.set(CACHE_KEY, _DOCUMENT, ex=CACHE_SECONDS)
        return _DOCUMENT


class MineUnlocked(AccountHandler):
    """`/api/achievements/me`"""

    @endpoint("Get one's achievements", responds=MyAchievements(), errors=(503,))
    async def get(self) -> object:
        """The earliest first, and of each requirement the nearest that is still locked."""
        await self.gateway.activity_recorder.wait_until_reported(str(self.user_id))
        unlocked, facts, record = await self._read()
        if record is not None and not set(due(facts)) <= {each.achievement_id for each in unlocked}:
            await self._catch_up(record)
            unlocked, facts, _ = await self._read()
        unlocked.sort(key=lambda each: (each.unlocked_at, _ORDER.get(each.achievement_id, 0)))
        have = [each.achievement_id for each in unlocked]
        shown: Facts = facts if record is None else {**facts, "followers": record.followers}  # not the highest ever
        nexts = [
            {"id": each.id, "name": each.name, "progress": progress, "target": each.target}
            for each, progress in nearest(shown, have)
        ]
        return {"unlocked": unlocked, "total_points": points(have), "next_achievements": nexts}

    async def _read(self) -> tuple[list[UnlockedRow], Facts, FactsRow | None]:
        user_id, at = self.user_id, now()
        async with connection(self.services.pool) as conn:
            unlocked = await sql.unlocked(conn, user_id)
            record = await sql.facts(conn, user_id)
            qualified = await sql.count_qualified(conn, user_id)
            streaks = await streaks_of(conn, user_id)
            zone = (await load_zones(conn, [user_id])).get(user_id, "UTC")
        days = next((_current(each, at, zone) for each in streaks if each.streak_type == "login"), 0)
        facts: dict[Fact, int] = {"login_days": days, "referrals": qualified}
        if record is not None:
            facts |= {
                "signals": record.signals,
                "wins": record.wins,
                "followers": record.most_followers,
                "first_as_provider": min(record.signals, 1),
                "verified": int(record.level != "none"),
            }
        return unlocked, facts, record

    async def _catch_up(self, record: FactsRow) -> None:
        """Send the owner the track record's facts: its domain events are under way or lost; readers must not notice."""
        key = progress_key(record.user_id)
        message = ProviderFacts(record.signals, record.wins, record.most_followers, record.level, True, now())
        try:
            await self.ask(USERS, key, message)
        except AppError as error:
            log.info("achievements are shown as they were: %s", error)


class MineInRow(AccountHandler):
    """`/api/achievements/streaks`"""

    @endpoint("Get one's streaks", responds=MyStreaks(), errors=(503,))
    async def get(self) -> object:
        """Today's activity, this request included, is counted already."""
        user_id, at = self.user_id, now()
        await self.gateway.activity_recorder.wait_until_reported(str(user_id))
        async with connection(self.services.pool) as conn:
            streaks: dict[str, StreakRow] = {each.streak_type: each for each in await streaks_of(conn, user_id)}
            zone = (await load_zones(conn, [user_id])).get(user_id, "UTC")
            names = PROVIDERS if await sql.is_provider(conn, user_id) else EVERYBODY
        return {"streaks": [_shown(name, streaks.get(name), at, zone) for name in names]}


_ORDER = {each.id: number for number, each in enumerate(ACHIEVEMENTS)}


def _shown(name: str, row: StreakRow | None, at: datetime, zone: str) -> Document:
    if row is None:
        return {"streak_type": name, "current_count": 0, "longest_count": 0, "last_activity_date": None}
    return {
        "streak_type": name,
        "current_count": _current(row, at, zone),
        "longest_count": row.longest_count,
        "last_activity_date": row.last_on.isoformat(),
    }


def _current(row: StreakRow, at: datetime, zone: str) -> int:
    """Return the count as it is today: a row holds the count at the last activity."""
    if row.streak_type == "profitable_signal":  # does not depend on days
        return row.current_count
    return row.current_count if is_alive(from_row(row), at, zone) else 0
