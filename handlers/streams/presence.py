"""Count the distinct providers that have a stream open now, over all gateways."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter

from config.tasks import cancel, spawn
from db._redis import RedisClient, RedisUnavailable
from schemas.stream import Viewer

GATEWAYS = "tradestream:gateways"  # sorted set: gateways' ids, scored by the time until which their providers count
REFRESH_SECONDS = 5.0
CHANGED_SECONDS = 0.25  # how soon a change is published, at the earliest
TTL_SECONDS = 15.0  # how long the providers of a gateway that died are counted


class Presence:
    """Keeps this gateway's providers in Redis and counts all gateways'; with Redis unavailable, its own."""

    def __init__(self, redis: RedisClient) -> None:
        self.connected = 0
        self._redis = redis
        self._gateway = secrets.token_hex(8)
        self._local: Counter[str] = Counter()
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start publishing and counting."""
        self._task = spawn(self._run(), name="provider presence")

    async def stop(self) -> None:
        """Remove this gateway's providers, if Redis is available."""
        await cancel(self._task)
        try:
            async with self._redis.answering(), self._redis.pipeline() as pipe:
                pipe.delete(_key(self._gateway))
                pipe.zrem(GATEWAYS, self._gateway)
                await pipe.execute()
        except RedisUnavailable:
            pass

    def enter(self, viewer: Viewer) -> None:
        """Count the viewer of a stream that has been opened."""
        if viewer.is_provider and viewer.user_id is not None:
            self._local[viewer.user_id] += 1
            if self._local[viewer.user_id] == 1:
                self._changed.set()

    def leave(self, viewer: Viewer) -> None:
        """Uncount the viewer of a stream that has ended."""
        if viewer.is_provider and viewer.user_id is not None:
            self._local[viewer.user_id] -= 1
            if not self._local[viewer.user_id]:
                del self._local[viewer.user_id]
                self._changed.set()

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            try:
                async with self._redis.answering():
                    self.connected = await self._refresh()
            except RedisUnavailable:
                self.connected = len(self._local)
            await asyncio.sleep(CHANGED_SECONDS)
            try:
                async with asyncio.timeout(REFRESH_SECONDS - CHANGED_SECONDS):
                    await self._changed.wait()
            except TimeoutError:
                pass

    async def _refresh(self) -> int:
        key, moment = _key(self._gateway), time.time()
        async with self._redis.pipeline(transaction=True) as pipe:  # others must never see an incomplete set
            pipe.delete(key)
            if self._local:
                pipe.sadd(key, *self._local)
                pipe.expire(key, int(TTL_SECONDS))
            pipe.zadd(GATEWAYS, {self._gateway: moment + TTL_SECONDS})
            pipe.zremrangebyscore(GATEWAYS, 0, moment)
            pipe.zrange(GATEWAYS, 0, -1)
            gateways: list[bytes] = (await pipe.execute())[-1]
        return len(await self._redis.sunion([_key(gateway.decode()) for gateway in gateways]))


def _key(gateway: str) -> str:
    return f"tradestream:providers:{gateway}"
