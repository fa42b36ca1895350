"""Remembers sessions in Redis, so that any gateway can resume them: who they belong to, their filter and their marks.

What a record promises must hold when its gateway is killed at any instant, so a mark is stored before the event it is
of is sent. Two gateways can hold one session for a moment (its client has gone over, the first does not know yet): each
take-over raises the session's epoch, and a record of an older epoch never replaces one of a newer.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import orjson
from redis.asyncio import Redis

from db._redis import REDIS_ERRORS
from schemas.stream import SignalFilter
from server.feed.client import Client

log = logging.getLogger(__name__)

RESUME_SECONDS = 900  # how long a session can be resumed
ROUND_TRIP_SECONDS = 0.5  # a healthy Redis answers in one or two milliseconds
ASK_AGAIN_SECONDS = 0.2
AWAY_SECONDS = 0.5  # how long Redis is left alone after it failed
# What a resume waits for Redis, which restarts in less, and for other gateways to tell it again what it has lost.
PATIENCE_SECONDS = 3.0
KEPT_LOCALLY = 5_000  # sessions that ended here, for when Redis is away: about 4 MB

# KEYS: the sessions. ARGV: the time to live in ms; 1 for a take-over, which wants a higher epoch; then for each session
# its epoch and its record. Answer: the indexes of those refused.
SAVE = """
local refused = {}
local over = tonumber(ARGV[2])
for i, key in ipairs(KEYS) do
  local epoch = tonumber(ARGV[i * 2 + 1])
  local stored = tonumber(string.match(redis.call('GETRANGE', key, 0, 15), '^%d+')) or -1
  if stored > epoch or (over == 1 and stored == epoch) then
    refused[#refused + 1] = i - 1
  else
    redis.call('SET', key, ARGV[i * 2 + 2], 'PX', ARGV[1])
  end
end
return refused
"""


@dataclass(frozen=True, slots=True)
class Record:
    """A session as it is remembered. `owner` is the user's id, or empty for anybody who is not signed in."""

    epoch: int
    owner: str
    filter: SignalFilter
    marks: bytes

    @classmethod
    def of(cls, client: Client) -> Record:
        """The record of an open stream."""
        return cls(client.epoch, client.viewer.user_id or "", client.group.filter, client.marks)

    def encode(self) -> bytes:
        """`<epoch> <owner and filter as JSON>\\n<marks>`: the script above reads the epoch."""
        return b"%d %b\n%b" % (self.epoch, orjson.dumps([self.owner, self.filter.to_document()]), self.marks)

    @classmethod
    def decode(cls, data: bytes) -> Record:
        """The inverse of `encode`. Raises ValueError."""
        head, _, marks = data.partition(b"\n")
        epoch, _, document = head.partition(b" ")
        owner, wanted = orjson.loads(document)
        return cls(int(epoch), owner, SignalFilter.from_document(wanted), marks)


class SessionStore:
    """Saves and loads records. Never raises for Redis's sake and never waits for it long.

    What could not be saved stays with its client and is saved again: `is_behind` asks for that.
    """

    def __init__(self, redis: Redis, *, ttl_seconds: float) -> None:
        self._redis = redis
        self._ttl_ms = int(ttl_seconds * 1000)
        self._away_until = 0.0
        self._unsettled_until = 0.0
        self.is_behind = False
        self._ended: OrderedDict[bytes, tuple[float, Record]] = OrderedDict()

    @property
    def is_away(self) -> bool:
        """Whether Redis has just failed, and is left alone for a moment."""
        return asyncio.get_running_loop().time() < self._away_until

    async def load(self, session: bytes) -> Record | None:
        """The session's record: the newest of what Redis has and what this process remembers."""
        found = [record for record in (await self._load(session), self._recall(session)) if record is not None]
        return max(found, key=lambda record: (record.epoch, len(record.marks)), default=None)

    async def save(self, records: Sequence[tuple[bytes, Record]], *, take_over: bool = False) -> set[bytes]:
        """Store records; answers the sessions that another gateway has taken over since.

        When it returns the records are stored, or Redis is away: `is_behind` is set then.
        """
        if not records or self.is_away:
            self.is_behind = self.is_behind or bool(records)
            return set()
        keys = [_key(session) for session, _ in records]
        args: list[bytes | int] = [self._ttl_ms, int(take_over)]
        for _, record in records:
            args += (record.epoch, record.encode())
        try:
            async with asyncio.timeout(ROUND_TRIP_SECONDS):
                refused = await self._redis.eval(SAVE, len(keys), *keys, *args)
        except (*REDIS_ERRORS, TimeoutError) as error:
            self._failed(error)
            self.is_behind = True
            return set()
        return {records[index][0] for index in refused}

    def remember(self, session: bytes, record: Record) -> None:
        """Keep the record of a stream that has ended here, for when Redis is away."""
        if session in self._ended and self._ended[session][1].epoch > record.epoch:
            return
        self._ended[session] = (asyncio.get_running_loop().time() + self._ttl_ms / 1000, record)
        self._ended.move_to_end(session)
        if len(self._ended) > KEPT_LOCALLY:
            self._ended.popitem(last=False)

    def ended(self) -> list[tuple[bytes, Record]]:
        """What is remembered of streams that have ended here."""
        now = asyncio.get_running_loop().time()
        return [(session, record) for session, (until, record) in self._ended.items() if now < until]

    def unsettle(self) -> None:
        """Redis may have been restarted and may have lost what it knew: for a moment, what it lacks may yet come."""
        self._unsettled_until = asyncio.get_running_loop().time() + PATIENCE_SECONDS / 2

    async def _load(self, session: bytes) -> Record | None:
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + PATIENCE_SECONDS
        while True:
            if loop.time() >= self._away_until:
                answered, record = await self._ask(session)
                if record is not None or (answered and loop.time() >= self._unsettled_until):
                    return record
            if loop.time() >= give_up_at:
                return None
            await asyncio.sleep(ASK_AGAIN_SECONDS)

    async def _ask(self, session: bytes) -> tuple[bool, Record | None]:
        # Whether Redis answered, and the record.
        try:
            async with asyncio.timeout(ROUND_TRIP_SECONDS):
                data = await self._redis.get(_key(session))
            return True, Record.decode(data) if isinstance(data, bytes) else None
        except (*REDIS_ERRORS, TimeoutError) as error:
            self._failed(error)
            return False, None
        except (TypeError, ValueError):
            log.exception("the record of session %s cannot be read", session.decode())
            return True, None

    def _recall(self, session: bytes) -> Record | None:
        until, record = self._ended.get(session, (0.0, None))
        return record if asyncio.get_running_loop().time() < until else None

    def _failed(self, error: Exception) -> None:
        log.warning("Redis is away, sessions cannot be recorded: %s", type(error).__name__)
        self._away_until = asyncio.get_running_loop().time() + AWAY_SECONDS


def _key(session: bytes) -> bytes:
    return b"tradestream:stream:" + session
