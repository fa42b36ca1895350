"""Limit how many streams are open: in this process, and over all gateways for one address and for one user.

Each address and each user has a sorted set in Redis: its open sessions, scored by the time until which they count.
Heartbeats renew them, so those of a gateway that died stop counting by themselves; and a session that resumes elsewhere
counts once. With Redis unavailable each process counts for itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from config.settings import Settings
from config.tasks import spawn
from db._redis import RedisClient, RedisUnavailable
from handlers.streams.client import StreamClient
from schemas.errors import Overloaded, RateLimited
from schemas.stream import Viewer

PER_ADDRESS = 20
PER_USER = 5
RETRY_SECONDS = 30  # open streams seldom fall below the limit within a moment
HEARTBEATS_COUNTED = 2.5  # a session counts for so many intervals after it was last renewed

# KEYS: the sets that a session enters. ARGV: the session, the time to live in ms, the limit of each set.
# Answer: the number of the set that is full, or 0.
ENTER = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for i, key in ipairs(KEYS) do
  redis.call('ZREMRANGEBYSCORE', key, 0, now)
  if not redis.call('ZSCORE', key, ARGV[1]) and redis.call('ZCARD', key) >= tonumber(ARGV[i + 2]) then return i end
end
for _, key in ipairs(KEYS) do
  redis.call('ZADD', key, now + ARGV[2], ARGV[1])
  redis.call('PEXPIRE', key, ARGV[2])
end
return 0
"""

# KEYS: sets. ARGV: the time to live in ms, or 0 for sessions that have ended; then the session in each set.
RENEW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for i, key in ipairs(KEYS) do
  if ARGV[1] == '0' then
    redis.call('ZREM', key, ARGV[i + 1])
  else
    redis.call('ZADD', key, now + ARGV[1], ARGV[i + 1])
    redis.call('PEXPIRE', key, ARGV[1])
  end
end
return 0
"""


class StreamLimits:
    """Counts the open streams. The process's own bound always applies, the others only where limits are enabled."""

    def __init__(self, redis: RedisClient, settings: Settings) -> None:
        self.open = 0
        self._redis = redis
        self._max_streams = settings.max_streams
        self._enabled = settings.rate_limit_enabled
        self._ttl_ms = int(HEARTBEATS_COUNTED * settings.heartbeat_seconds * 1000)
        self._by_address: Counter[str] = Counter()
        self._by_user: Counter[str] = Counter()
        self._ended: list[tuple[str, bytes]] = []
        self._is_reporting = False

    def enter(self, viewer: Viewer) -> None:
        """Count one more here. Raises Overloaded (503) or RateLimited (429) if that would be too many."""
        if self.open >= self._max_streams:
            raise Overloaded("Too many open streams on this server", retry_after=RETRY_SECONDS)
        if self._enabled and self._by_address[viewer.address] >= PER_ADDRESS:
            raise _too_many(1)
        if self._enabled and viewer.user_id is not None and self._by_user[viewer.user_id] >= PER_USER:
            raise _too_many(2)
        self.open += 1
        self._by_address[viewer.address] += 1
        if viewer.user_id is not None:
            self._by_user[viewer.user_id] += 1

    async def share(self, viewer: Viewer, session: bytes) -> None:
        """Count a session for all gateways. Raises RateLimited."""
        if not self._enabled:
            return
        await self._report_ended()  # else one that has just been closed could still be counted
        keys = _keys(viewer)
        full = await self._eval(ENTER, keys, [session, self._ttl_ms, PER_ADDRESS, PER_USER])
        if full:
            raise _too_many(full)

    def leave(self, viewer: Viewer, session: bytes | None = None) -> None:
        """Uncount a stream that has ended; `session` if it was shared."""
        self.open -= 1
        _decrease(self._by_address, viewer.address)
        if viewer.user_id is not None:
            _decrease(self._by_user, viewer.user_id)
        if self._enabled and session is not None:
            self._ended += ((key, session) for key in _keys(viewer))
            if not self._is_reporting:
                self._is_reporting = True
                spawn(self._report_ended(), name="streams that have ended")

    async def renew(self, clients: Iterable[StreamClient]) -> None:
        """Renew sessions that are still open."""
        if not self._enabled:
            return
        pairs = [(key, client.session) for client in clients for key in _keys(client.viewer)]
        if pairs:
            await self._eval(RENEW, [key for key, _ in pairs], [self._ttl_ms, *(session for _, session in pairs)])

    async def _report_ended(self) -> None:
        self._is_reporting = False
        pairs, self._ended = self._ended, []
        if pairs:
            await self._eval(RENEW, [key for key, _ in pairs], [0, *(session for _, session in pairs)])

    async def _eval(self, script: str, keys: list[str], args: list[bytes | int]) -> int:
        # The script's answer; 0 with Redis unavailable: then nobody waits for it.
        if not self._redis.is_available:
            return 0
        try:
            async with self._redis.answering():
                return int(await self._redis.eval(script, len(keys), *keys, *args))
        except RedisUnavailable:
            return 0


def _too_many(number: int) -> RateLimited:
    whose = "from this address" if number == 1 else "of this user"
    return RateLimited(f"Too many open streams {whose}", retry_after=RETRY_SECONDS)


def _keys(viewer: Viewer) -> list[str]:
    keys = [f"tradestream:open:address:{viewer.address}"]
    if viewer.user_id is not None:
        keys.append(f"tradestream:open:user:{viewer.user_id}")
    return keys


def _decrease(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]
