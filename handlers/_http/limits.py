"""Limit request rates: counted in Redis, all waiting requests in one round trip; in this process without Redis."""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

from config.tasks import spawn
from db._redis import RedisClient, RedisUnavailable

ROUND_TRIP_SECONDS = 0.25  # a healthy Redis answers in under one millisecond
BATCH = 200  # checks in one round trip; the script holds up all of Redis for about 2 µs each
WAITING = 2_000  # requests that may wait for the next round trip; those past it are counted in this process
LOCAL_KEYS = 10_000  # counters kept while Redis is unavailable, about 8 MB; the least recently used goes first

# KEYS: a counter each. ARGV: limit, window in ms, "1" for a sliding one, and its relation to the one before it: "1"
# counts the same request, only if that one has admitted it. "2" is no counter but a gate: whether its key exists
# decides which of those that follow counts, "3" if so, else "4". Answer: allowed, used, reset in ms; for each. What
# does not count answers -1 for used.
# A sliding window is the list of the times of admitted requests, so it is exact; its length is bounded by the limit.
SCRIPT = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local answer = {}
local allowed, there
for i, key in ipairs(KEYS) do
  local limit, window = tonumber(ARGV[i * 4 - 3]), tonumber(ARGV[i * 4 - 2])
  local used, reset
  local way = ARGV[i * 4]
  if way == '2' then
    there = redis.call('EXISTS', key) == 1
    allowed, used, reset = true, -1, 0
  elseif (way == '3' and not there) or (way == '4' and there) then
    used, reset = -1, 0
  elseif way == '1' and not allowed then
    used, reset = 0, 0
  elseif ARGV[i * 4 - 1] == '1' then
    local oldest = tonumber(redis.call('LINDEX', key, 0))
    while oldest and oldest <= now - window do
      redis.call('LPOP', key)
      oldest = tonumber(redis.call('LINDEX', key, 0))
    end
    used = redis.call('LLEN', key)
    reset = (oldest or now) + window - now
    allowed = used < limit
    if allowed then
      used = redis.call('RPUSH', key, string.format('%.0f', now))
      redis.call('PEXPIRE', key, window)
    end
  else
    used = redis.call('INCR', key)
    reset = redis.call('PTTL', key)
    if reset < 0 then
      redis.call('PEXPIRE', key, window)
      reset = window
    end
    allowed = used <= limit
  end
  answer[i * 3 - 2], answer[i * 3 - 1], answer[i * 3] = allowed and 1 or 0, used, reset
end
return answer
"""


@dataclass(frozen=True, slots=True)
class Rule:
    """How many requests are admitted per window. `limit` None is RATE_LIMIT_PER_MINUTE, 0 no limit at all.

    `announce_from`: the limit's headers are sent from this many used on.
    """

    limit: int | None = None
    window_seconds: int = 60
    sliding: bool = False
    announce_from: int = 0

    def of(self, limit: int) -> Rule:
        """Return the rule with another limit; its headers are sent from the same share of it on."""
        share = self.announce_from / self.limit if self.limit else 0
        return replace(self, limit=limit, announce_from=int(share * limit))


STANDARD = Rule()
EXEMPT = Rule(limit=0)


@dataclass(frozen=True, slots=True)
class LimitVerdict:
    """Whether a request is admitted, and the state of its counter; `reset_seconds` ≥ 1.

    `announced`: whether the response carries the limit's headers.
    """

    allowed: bool
    limit: int
    used: int
    reset_seconds: int
    announced: bool = True

    @property
    def remaining(self) -> int:
        """How many more requests are admitted before the reset."""
        return max(0, self.limit - self.used)


@dataclass(frozen=True, slots=True)
class LimitGate:
    """A key of Redis that decides which rule counts: if it does not exist, `rule` does, under the name `route`."""

    key: str
    rule: Rule
    route: str


_GOES_ON, _GATE, _IF_THERE, _IF_NOT = 1, 2, 3, 4


@dataclass(frozen=True, slots=True)
class _Check:
    key: str
    limit: int
    window_seconds: int
    sliding: bool
    announce_from: int = 0
    way: int = 0  # see SCRIPT

    def verdict(self, allowed: bool, used: int, reset_seconds: float) -> LimitVerdict:
        return LimitVerdict(
            allowed, self.limit, used, max(1, math.ceil(reset_seconds)), announced=used >= self.announce_from
        )


_Request = tuple[_Check, ...]  # the counters of one request; each counts only what the one before it admits


class Limiter:
    """Counts requests. Never raises because of Redis, and never waits for it longer than ROUND_TRIP_SECONDS."""

    def __init__(self, redis: RedisClient, *, standard_limit: int, enabled: bool = True) -> None:
        self._redis = redis
        self._script = redis.register_script(SCRIPT)
        self._standard_limit = standard_limit
        self._enabled = enabled
        self._local = LocalCounters()
        self._waiting: deque[tuple[_Request, asyncio.Future[LimitVerdict | None]]] = deque()
        self._busy = False
        self._is_back = False  # Redis is available again, and has not counted since
        redis.on_change(self._note_change)

    async def check(
        self,
        rule: Rule,
        route: str,
        address: str,
        user: tuple[Rule, str] | None = None,
        gate: LimitGate | None = None,
    ) -> LimitVerdict | None:
        """Count one request from `address` on `route`; with `user` (a rule and an id) count it for that user as well.

        With `gate`, which excludes `user`, the gate's rule counts instead if its key does not exist.

        A refusal by either refuses the request: then a user is not charged for what their address may not do. Returns
        the verdict that refuses, or the one that leaves fewer requests; None where nothing limits the request.
        """
        if not self._enabled:
            return None
        if gate is None:
            counted = [(rule, address)] if user is None else [(rule, address), (user[0], f"user:{user[1]}")]
            request = tuple(each for rule, who in counted if (each := self._counter(rule, route, who)) is not None)
        else:
            request = self._gated(gate, self._counter(rule, route, address), address)
        if not request or request[-1].way == _GATE:
            return None
        if not self._redis.is_trusted or len(self._waiting) >= WAITING:
            return self._local.count_request(request)
        if self._busy:
            future: asyncio.Future[LimitVerdict | None] = asyncio.get_running_loop().create_future()
            self._waiting.append((request, future))
            return await future
        self._busy = True
        try:
            return (await self._count([request]))[0]
        finally:
            if self._waiting:
                spawn(self._work_off(), name="rate limits")
            else:
                self._busy = False

    def _note_change(self) -> None:
        self._is_back = self._redis.is_available

    async def _work_off(self) -> None:
        # Requests that arrive while a round trip is under way leave together in the next.
        try:
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
                for (_, future), verdict in zip(batch, await self._count([each for each, _ in batch]), strict=True):
                    if not future.done():
                        future.set_result(verdict)
        finally:
            self._busy = False

    def _gated(self, gate: LimitGate, counter: _Check | None, address: str) -> _Request:
        other = self._counter(gate.rule, gate.route, address)
        ways = [(counter, _IF_THERE), (other, _IF_NOT)]
        return (
            _Check(gate.key, 0, 0, sliding=False, way=_GATE),
            *(replace(each, way=way) for each, way in ways if each is not None),
        )

    def _counter(self, rule: Rule, route: str, subject: str) -> _Check | None:
        limit = self._standard_limit if rule.limit is None else rule.limit
        if limit == 0:
            return None
        key = f"tradestream:limit:{route}:{subject}"
        return _Check(key, limit, rule.window_seconds, rule.sliding, rule.announce_from)

    async def _count(self, requests: Sequence[_Request]) -> list[LimitVerdict | None]:
        if not self._redis.is_trusted:
            return [self._local.count_request(each) for each in requests]
        counters = [(check, check.way or int(place > 0)) for request in requests for place, check in enumerate(request)]
        try:
            async with self._redis.answering(ROUND_TRIP_SECONDS, is_proof=False):
                answer = await self._script(
                    keys=[check.key for check, _ in counters],
                    args=[
                        each
                        for check, way in counters
                        for each in (check.limit, check.window_seconds * 1000, int(check.sliding), way)
                    ],
                )
        except RedisUnavailable:
            return [self._local.count_request(each) for each in requests]
        if self._is_back:  # one that answers pings may refuse to write: only a count proves that Redis counts
            self._is_back = False
            self._local = LocalCounters()
        verdicts = iter(
            [
                None
                if answer[i * 3 + 1] < 0
                else check.verdict(answer[i * 3] == 1, answer[i * 3 + 1], answer[i * 3 + 2] / 1000)
                for i, (check, _) in enumerate(counters)
            ]
        )
        return [_decisive(list(islice(verdicts, len(request)))) for request in requests]


class LocalCounters:
    """Counts as the script does, in this process's memory."""

    def __init__(self, *, capacity: int = LOCAL_KEYS) -> None:
        self._capacity = capacity
        self._times: OrderedDict[str, deque[float]] = OrderedDict()

    def count_request(self, request: _Request) -> LimitVerdict | None:
        """Count one request by all of its counters, up to the one that refuses it. A gate's key is assumed to exist."""
        verdicts: list[LimitVerdict | None] = []
        for check in request:
            if check.way in {_GATE, _IF_NOT}:
                continue
            verdict = self.count(check)
            verdicts.append(verdict)
            if not verdict.allowed:
                break
        return _decisive(verdicts)

    def count(self, check: _Check, now: float | None = None) -> LimitVerdict:
        """Count one request at `now` (monotonic seconds)."""
        now = time.monotonic() if now is None else now
        times = self._times.pop(check.key, None)
        if times is None:
            times = deque()
            if len(self._times) >= self._capacity:
                self._times.popitem(last=False)
        self._times[check.key] = times  # last in the order: the first is the least recently used
        # A fixed window begins with its first request and ends as a whole.
        while times and times[0] <= now - check.window_seconds:
            if check.sliding:
                times.popleft()
            else:
                times.clear()
        allowed = len(times) < check.limit
        if allowed:
            times.append(now)
        used = len(times) if allowed or check.sliding else check.limit + 1
        return check.verdict(allowed, used, times[0] + check.window_seconds - now)


def _decisive(verdicts: Sequence[LimitVerdict | None]) -> LimitVerdict | None:
    """Return the verdict that refuses, or else the one that leaves fewer requests; None where nothing has counted."""
    found = [each for each in verdicts if each is not None]
    refused = next((each for each in found if not each.allowed), None)
    return refused or min(found, key=lambda each: each.remaining, default=None)
