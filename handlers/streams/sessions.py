"""Store sessions where every gateway finds them: in Redis, and in Postgres while Redis is unavailable.

What a record promises must hold when its gateway is killed at any instant, so a checkpoint is stored before its event
is sent. Two gateways can hold one session for a moment (its client has moved, and the first does not know yet): each
take-over raises the session's epoch, and a record of an older epoch never replaces one of a newer.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Sequence
from datetime import timedelta

from config.backoff import Backoff
from db._postgres import Pool, connection
from db._redis import RedisClient, RedisUnavailable
from db.stream_sessions import forget_sessions, load_session, save_sessions
from handlers.streams.records import SessionRecord
from schemas.errors import DatabaseUnavailable

log = logging.getLogger(__name__)

RESUME_SECONDS = 900  # how long a session can be resumed
DATABASE_SECONDS = 1.0
CLOCK_SECONDS = 5.0  # how much sooner than this gateway another one may have found Redis unavailable
# How long a resume waits for Redis, and for other gateways to store again what it has lost.
PATIENCE_SECONDS = 3.0
RESTART_SECONDS = 8.0  # an outage that is younger may be a restart, which takes seconds on a busy machine
DISTRUST_SECONDS = (
    1.5  # in which every gateway notices that Redis is unavailable or back, and stores its sessions again
)
ASK_AGAIN_SECONDS = (0.1, 1.0)  # first and longest pause
# Clients reconnect within seconds. A session that ended here longer ago has likely resumed elsewhere: stored again,
# its record could outlive a newer one.
RECENT_SECONDS = 10.0
KNOWN_SECONDS = 86_400  # how long it is known that there was a session
KEPT_LOCALLY = 5_000  # sessions that ended here, for when neither store is available: about 4 MB

# KEYS: the sessions. ARGV: the time to live in ms; 1 for a take-over, which needs a higher epoch; then for each session
# its epoch, its n and its record. Answer: the indexes of those refused. A record of the same epoch with a higher n is
# kept: a command that was given up as lost can arrive after a later one. That a session has existed is stored for
# longer than its record: a client that comes back then is told that it has expired, and not that it is unknown.
SAVE = f"""
local refused = {{}}
local over = ARGV[2] == '1'
for i, key in ipairs(KEYS) do
  local epoch, n = tonumber(ARGV[i * 3]), tonumber(ARGV[i * 3 + 1])
  local stored, newest = string.match(redis.call('GETRANGE', key, 0, 40), '^(%d+) (%d+)')
  stored, newest = tonumber(stored) or -1, tonumber(newest) or -1
  if stored > epoch or (over and stored == epoch) then
    refused[#refused + 1] = i - 1
  elseif stored < epoch or newest <= n then
    redis.call('SET', key, ARGV[i * 3 + 2], 'PX', ARGV[1])
    if over or stored < 0 then redis.call('SET', key .. ':was', '', 'EX', {KNOWN_SECONDS}) end
  end
end
return refused
"""


class SessionStore:
    """Saves and loads records. Never raises because of Redis or Postgres, and never waits for them long.

    `is_behind`: Redis lacks records, which are stored again when it is back.
    """

    def __init__(self, redis: RedisClient, pool: Pool, *, ttl_seconds: float, gateway: str = "") -> None:
        """`gateway`: the holder to record in what is saved."""
        self.is_behind = False
        self._redis = redis
        self._pool = pool
        self._gateway = gateway
        self._ttl = timedelta(seconds=ttl_seconds)
        self._distrusted_until = 0.0
        self._in_postgres: dict[bytes, float] = {}  # and since when
        self._ended: OrderedDict[bytes, tuple[float, SessionRecord]] = OrderedDict()
        redis.on_change(self.distrust_redis)

    async def load(self, session: bytes) -> SessionRecord | None:
        """Return the newest record of the session; None if there is none, or if the newest cannot be reached.

        When Redis has just become unavailable or come back, this waits until the other gateways have noticed, too: they
        store again, in Postgres or in Redis, what the available one may lack.
        """
        loop = asyncio.get_running_loop()
        began, backoff = loop.time(), Backoff(*ASK_AGAIN_SECONDS)
        while True:
            answered, is_certain, found = await self._look_up(session)
            newest = max(found, key=lambda record: (record.version, len(record.checkpoints)), default=None)
            if newest is not None and newest.is_tombstone:
                newest = None
            if is_certain and (answered or newest is not None):
                return newest
            if loop.time() >= max(began + PATIENCE_SECONDS, min(began, self._redis.lost_at) + RESTART_SECONDS):
                return newest
            await asyncio.sleep(backoff.next())

    async def was_there(self, session: bytes) -> bool:
        """Return whether there has been such a session within the last day, as far as Redis knows."""
        try:
            async with self._redis.answering():
                return bool(await self._redis.exists(_key(session) + b":was"))
        except RedisUnavailable:
            return False

    def key_of(self, session: bytes) -> str | None:
        """Return Redis's key that exists while the session does; None while Redis may lack some, or if known here."""
        if not self._redis.is_available or self.is_behind or not self._is_redis_trusted or session in self._ended:
            return None
        return _key(session).decode()

    async def save(self, records: Sequence[tuple[bytes, SessionRecord]], *, take_over: bool = False) -> set[bytes]:
        """Store records; returns the sessions that another gateway has taken over since.

        On return they are stored, or Redis and Postgres are both unavailable.
        """
        if not records:
            return set()
        if self._redis.is_available:
            refused = await self._save_in_redis(records, take_over)
            if refused is not None:
                if take_over and not refused:
                    await self._mark_taken_over(records)
                elif self._in_postgres and self._is_redis_trusted:
                    await self._forget(records)
                return refused
        self.is_behind = True
        return await self._save_in_postgres(records, take_over)

    async def resave(self, records: Sequence[tuple[bytes, SessionRecord]]) -> set[bytes]:
        """Store again, in Redis alone, what it may lack; what was kept in Postgres instead is dropped there."""
        if not records:
            return set()
        refused = await self._save_in_redis(records, take_over=False) if self._redis.is_available else None
        if refused is None:
            self.is_behind = True
            return set()
        await self._forget(records)
        return refused

    def forget_rows(self, since: float) -> None:
        """Forget what went to Postgres before `since`: all was resaved; sessions left were taken over elsewhere."""
        if not self.is_behind:
            self._in_postgres = {session: moment for session, moment in self._in_postgres.items() if moment >= since}

    def remember(self, session: bytes, record: SessionRecord) -> None:
        """Keep the record of a stream that has ended here."""
        if session in self._ended and self._ended[session][1].version > record.version:
            return
        self._ended[session] = (asyncio.get_running_loop().time(), record)
        self._ended.move_to_end(session)
        if len(self._ended) > KEPT_LOCALLY:
            self._ended.popitem(last=False)

    def just_ended(self) -> list[tuple[bytes, SessionRecord]]:
        """Return the records of streams that ended here within RECENT_SECONDS: they may not have resumed yet."""
        since = asyncio.get_running_loop().time() - RECENT_SECONDS
        return [(session, record) for session, (ended_at, record) in self._ended.items() if ended_at > since]

    def distrust_redis(self) -> None:
        """Distrust Redis for DISTRUST_SECONDS: gone, or back without its data, it lacks records that may come soon."""
        self._distrusted_until = asyncio.get_running_loop().time() + DISTRUST_SECONDS

    @property
    def is_redis_available(self) -> bool:
        """Whether records go to Redis; else they go to Postgres."""
        return self._redis.is_available

    @property
    def _is_redis_trusted(self) -> bool:
        return asyncio.get_running_loop().time() >= self._distrusted_until

    async def _look_up(self, session: bytes) -> tuple[bool, bool, list[SessionRecord]]:
        # Whether Redis has answered, whether the newest record is sure to be found, and those that may be it.
        # In this order: a gateway that moves a record from Postgres back to Redis stores it in Redis first.
        is_complete, in_postgres = await self._ask_postgres(session)
        answered, in_redis = await self._ask_redis(session)
        outage_seconds = asyncio.get_running_loop().time() - self._redis.lost_at
        # If Redis answers but is thought unavailable, it has just come back. Postgres is needed only after an outage.
        is_certain = self._is_redis_trusted and answered is self._redis.is_available
        is_certain = is_certain and (is_complete or outage_seconds > self._ttl.total_seconds())
        if answered:
            found = [in_redis, *(record for record, _ in in_postgres)]
            return True, is_certain, [record for record in found if record is not None]
        # A record older than the outage may be older than what Redis holds.
        dated = [
            *self._recall(session),
            *((record, age_seconds - CLOCK_SECONDS) for record, age_seconds in in_postgres),
        ]
        return False, is_certain, [record for record, age_seconds in dated if age_seconds < outage_seconds]

    async def _mark_taken_over(self, records: Sequence[tuple[bytes, SessionRecord]]) -> None:
        # Taken over in Redis: a gateway that cannot reach it must not take the row in Postgres for the newest.
        tombstones = [(session, record.tombstone()) for session, record in records if session in self._in_postgres]
        if tombstones:
            await self._save_in_postgres(tombstones, take_over=False)

    async def _forget(self, records: Sequence[tuple[bytes, SessionRecord]]) -> None:
        # Redis holds these, or those that refused them: what Postgres has is not newer, and of no use any more.
        moved = [each for each in records if each[0] in self._in_postgres]
        if not moved:
            return
        try:
            async with connection(self._pool, deadline_seconds=DATABASE_SECONDS) as conn:
                await forget_sessions(conn, [(session.decode(), *record.version) for session, record in moved])
        except DatabaseUnavailable:
            return  # they expire; until then Redis has the newer ones
        for session, _ in moved:
            self._in_postgres.pop(session, None)

    async def _save_in_redis(
        self, records: Sequence[tuple[bytes, SessionRecord]], take_over: bool
    ) -> set[bytes] | None:
        # The sessions refused, or None when Redis is unavailable.
        keys = [_key(session) for session, _ in records]
        args: list[bytes | int] = [int(self._ttl.total_seconds() * 1000), int(take_over)]
        for _, record in records:
            args += (record.epoch, record.n, record.encode(self._gateway))
        try:
            async with self._redis.answering():
                refused = await self._redis.eval(SAVE, len(keys), *keys, *args)
        except RedisUnavailable:
            return None
        return {records[index][0] for index in refused}

    async def _save_in_postgres(self, records: Sequence[tuple[bytes, SessionRecord]], take_over: bool) -> set[bytes]:
        rows = [(session.decode(), record.epoch, record.n, record.encode(self._gateway)) for session, record in records]
        try:
            async with connection(self._pool, deadline_seconds=DATABASE_SECONDS) as conn:
                refused = await save_sessions(conn, rows, self._ttl, take_over=take_over)
        except DatabaseUnavailable:
            return set()
        self._in_postgres.update(dict.fromkeys([session for session, _ in records], asyncio.get_running_loop().time()))
        return {session.encode() for session in refused}

    async def _ask_redis(self, session: bytes) -> tuple[bool, SessionRecord | None]:
        # Whether Redis answered, and the record. Asked even if Redis is thought unavailable: it may just be back.
        try:
            async with self._redis.answering():
                data = await self._redis.get(_key(session))
        except RedisUnavailable:
            return False, None
        return True, _decode(session, data)

    async def _ask_postgres(self, session: bytes) -> tuple[bool, list[tuple[SessionRecord, float]]]:
        # Whether Postgres has answered; the record, if there is one, and its age in seconds.
        try:
            async with connection(self._pool, deadline_seconds=DATABASE_SECONDS) as conn:
                found = await load_session(conn, session.decode())
        except DatabaseUnavailable:
            return False, []
        record = None if found is None else _decode(session, found[0])
        if found is None or record is None:
            return True, []
        self._in_postgres[session] = asyncio.get_running_loop().time()
        return True, [(record, (self._ttl - found[1]).total_seconds())]

    def _recall(self, session: bytes) -> list[tuple[SessionRecord, float]]:
        # The record of a stream that ended here, and how long ago.
        if session not in self._ended:
            return []
        ended_at, record = self._ended[session]
        return [(record, asyncio.get_running_loop().time() - ended_at)]


def _decode(session: bytes, data: object) -> SessionRecord | None:
    if not isinstance(data, bytes):
        return None
    try:
        return SessionRecord.decode(data)
    except ValueError:
        log.exception("the record of session %s cannot be read", session.decode())
        return None


def _key(session: bytes) -> bytes:
    return b"tradestream:stream:" + session
