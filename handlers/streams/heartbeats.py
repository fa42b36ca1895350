"""Send heartbeats, store the checkpoints that make sessions resumable, and end streams at their deadlines."""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

import orjson

from config.clock import now, rfc3339
from config.tasks import spawn
from handlers.streams.client import ClientState, StreamClient
from handlers.streams.fanout import Fanout
from handlers.streams.limits import StreamLimits
from handlers.streams.presence import Presence
from handlers.streams.records import SessionRecord
from handlers.streams.ring import Payload
from handlers.streams.sessions import RESUME_SECONDS, SessionStore

log = logging.getLogger(__name__)

TICK_SECONDS = 0.25
WAVE = 256  # clients whose heartbeats are recorded in one round trip; they are held for its duration
WAVES = 4  # waves under way at once; clients due beyond that wait for the next tick
STALL_SECONDS = 120.0  # a socket that has not emptied once in this time is taken for abandoned
LEAST_KEPT_BYTES = 512  # of checkpoints: 64 to 256 of them

Save = Callable[[Sequence[tuple[bytes, SessionRecord]]], Awaitable[set[bytes]]]


class Heartbeats:
    """Sends every client its heartbeats, spread evenly over the interval, and ends it at its deadline.

    A heartbeat's checkpoint is stored before it is sent, so that other gateways know it before its number reaches them.
    Meanwhile the client is HELD; signals that come then follow. With Redis unavailable it is sent all the same.
    """

    def __init__(
        self,
        fanout: Fanout,
        store: SessionStore,
        presence: Presence,
        limits: StreamLimits,
        clients: Mapping[bytes, StreamClient],
        *,
        heartbeat_seconds: float,
    ) -> None:
        self._fanout = fanout
        self._store = store
        self._presence = presence
        self._limits = limits
        self._clients = clients
        self._heartbeat_seconds = heartbeat_seconds
        self._tick_seconds = min(TICK_SECONDS, heartbeat_seconds / 8)
        # Checkpoints older than a session can be resumed are of no use. Two to eight bytes each.
        self._keep = min(1024, math.ceil(RESUME_SECONDS / heartbeat_seconds) + 4)
        self._keep_bytes = max(LEAST_KEPT_BYTES, 8 * self._keep)
        self._buckets: defaultdict[int, list[StreamClient]] = defaultdict(list)
        self._next_tick = 0
        self._due: list[StreamClient] = []
        self._waves = 0
        self._is_recording = False
        self._is_record_wanted = False
        self._was_available = True
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Start ticking."""
        self._next_tick = self._tick_of(asyncio.get_running_loop().time())
        self._tick()

    def stop(self) -> None:
        """Stop ticking."""
        if self._timer is not None:
            self._timer.cancel()

    def add(self, client: StreamClient) -> None:
        """Add a client; its first heartbeat comes early, at random, so that clients that arrive together spread out."""
        self._schedule(client, self._heartbeat_seconds * random.uniform(0.5, 1.0))  # noqa: S311

    def between_batches(self) -> None:
        """Do what is due, while all LIVE clients are at the fan-out's offset."""
        moment = asyncio.get_running_loop().time()
        for tick in range(self._next_tick, self._tick_of(moment) + 1):
            self._due += self._buckets.pop(tick, ())
        self._next_tick = self._tick_of(moment) + 1
        self._fanout.sweep(moment)
        if not self._is_recording and self._is_record_due():
            spawn(self.record_all(), name="record all sessions")
        while self._due and self._waves < WAVES:
            wave, self._due = self._due[:WAVE], self._due[WAVE:]
            self._begin_wave(wave, moment)

    async def record_all(self) -> None:
        """Store every session: again in Redis, which may have lost them; in Postgres, if Redis is unavailable."""
        self._is_record_wanted = True  # even if one is under way: what it has stored may be lost by now
        if self._is_recording:
            return
        self._is_recording = True
        try:
            while self._is_record_wanted or self._store.is_redis_available is not self._was_available:
                self._is_record_wanted = False
                self._was_available = self._store.is_redis_available
                await self._record_all(self._store.resave if self._was_available else self._store.save)
        finally:
            self._is_recording = False

    async def _record_all(self, save: Save) -> None:
        if self._was_available:
            self._store.is_behind = False
        began = asyncio.get_running_loop().time()
        ended, clients = self._store.just_ended(), list(self._clients.values())
        for start in range(0, len(ended), WAVE):
            await save(ended[start : start + WAVE])
        for start in range(0, len(clients), WAVE):
            chunk = [client for client in clients[start : start + WAVE] if client.state is not ClientState.CLOSED]
            self._drop_refused(chunk, await save([(client.session, SessionRecord.of(client)) for client in chunk]))
        self._store.forget_rows(began)

    def _is_record_due(self) -> bool:
        # Redis has become unavailable, or is back and lacks what was recorded meanwhile.
        is_available = self._store.is_redis_available
        return is_available is not self._was_available or (self._store.is_behind and is_available)

    def _begin_wave(self, clients: list[StreamClient], moment: float) -> None:
        recorded: list[StreamClient] = []
        for client in clients:
            if client.state in {ClientState.ENDING, ClientState.CLOSED}:
                continue
            if moment >= client.deadline:
                self._fanout.end(client, client.deadline_code)
            elif client.stalled_since is not None and moment - client.stalled_since > STALL_SECONDS:
                self._fanout.end(client, "SLOW_CONSUMER", 1)
            else:
                if client.state is ClientState.LIVE:
                    self._fanout.hold(client)
                    self._record(client, client.n + 1, client.cursor)
                elif client.state is ClientState.BEHIND:  # no heartbeat: data is on its way. But its offset is recorded
                    self._record(client, client.n, client.cursor)
                recorded.append(client)
                self._schedule(client, self._heartbeat_seconds)
        if recorded:
            self._waves += 1
            spawn(self._finish_wave(recorded), name="heartbeats")

    async def _finish_wave(self, clients: list[StreamClient]) -> None:
        try:
            refused = await self._store.save([(client.session, SessionRecord.of(client)) for client in clients])
        except Exception:  # whatever the error: the clients are HELD, and must go on
            log.exception("sessions could not be recorded")
            refused = set()
        finally:
            self._waves -= 1
        self._drop_refused(clients, refused)
        payload = Payload(orjson.dumps({"timestamp": rfc3339(now()), "connected_providers": self._presence.connected}))
        for client in clients:
            if client.state is ClientState.HELD:
                self._fanout.begin(client, b"heartbeat", payload)
        await self._limits.renew(client for client in clients if client.state is not ClientState.CLOSED)

    def _drop_refused(self, clients: Iterable[StreamClient], refused: set[bytes]) -> None:
        # Their sessions continue on another gateway: whatever is sent here would not be read.
        for client in clients:
            if client.session in refused:
                self._fanout.drop(client)

    def _record(self, client: StreamClient, n: int, seq: int) -> None:
        client.checkpoint(n, seq, keep_bytes=self._keep_bytes, keep=self._keep)

    def _schedule(self, client: StreamClient, seconds: float) -> None:
        due = min(asyncio.get_running_loop().time() + seconds, client.deadline)
        self._buckets[max(self._tick_of(due) + 1, self._next_tick)].append(client)

    def _tick_of(self, moment: float) -> int:
        return int(moment / self._tick_seconds)

    def _tick(self) -> None:
        self._fanout.wake()
        self._timer = asyncio.get_running_loop().call_later(self._tick_seconds, self._tick)
