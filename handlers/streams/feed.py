"""Run the live feed of this process: assemble its parts, open streams, end them."""

from __future__ import annotations

import asyncio
import contextvars
import random
import secrets
import socket
import time
from functools import partial

import orjson

from config.clock import now, rfc3339
from config.metrics import STREAMS_OPEN
from config.settings import Settings
from config.tasks import cancel, spawn
from db._postgres import Pool
from db._redis import RedisClient
from db._subscription import Subscription, reading
from handlers.streams.client import SocketClient, SseClient, StreamClient
from handlers.streams.connections import PushedSocket
from handlers.streams.decisions import DecisionHub
from handlers.streams.fanout import Fanout
from handlers.streams.heartbeats import Heartbeats
from handlers.streams.history import History
from handlers.streams.holders import Claimant, Holders
from handlers.streams.limits import StreamLimits
from handlers.streams.presence import Presence
from handlers.streams.records import SessionRecord
from handlers.streams.resume import Anew, Resumer, StreamSession
from handlers.streams.ring import EncodedSignal, Payload, Ring
from handlers.streams.sessions import RESUME_SECONDS, SessionStore
from handlers.streams.source import Source
from schemas.errors import RateLimited, Unavailable
from schemas.feed import DECISIONS_CHANNEL, FEED_CHANNEL, FeedSignal, decode_batch, decode_decisions
from schemas.stream import SignalFilter, Viewer

RING_SIGNALS = 4096
LIFETIME_SPREAD = 0.1
DRAIN_BATCH = 100  # streams ended in one go while draining; ending one takes about 20 µs


class LiveFeed:
    """All streams of this process. Start it when Redis and Postgres are known; neither needs to be available yet."""

    def __init__(self, settings: Settings, pool: Pool, redis: RedisClient, *, ring_signals: int = RING_SIGNALS) -> None:
        self.limits = StreamLimits(redis, settings)
        self.decisions = DecisionHub(limit=settings.ws_max_connections, buffer_bytes=settings.stream_buffer_bytes)
        self._max_seconds = settings.stream_max_seconds
        self._ring_signals = ring_signals
        self._ring = Ring(capacity=ring_signals)
        history = History(pool, self._ring)
        self._clients: dict[bytes, StreamClient] = {}
        self._holders = Holders(redis, find=self._clients.get, drop=self._drop)
        ttl_seconds = RESUME_SECONDS + 2 * settings.heartbeat_seconds
        self._store = SessionStore(redis, pool, ttl_seconds=ttl_seconds, gateway=self._holders.gateway)
        self._presence = Presence(redis)
        self._fanout = Fanout(self._ring, history, buffer_bytes=settings.stream_buffer_bytes, on_gone=self._forget)
        self._heartbeats = Heartbeats(
            self._fanout,
            self._store,
            self._presence,
            self.limits,
            self._clients,
            heartbeat_seconds=settings.heartbeat_seconds,
        )
        self._source = Source(
            pool,
            deliver=self._deliver,
            make_room=lambda: self._fanout.reach(self._ring.last - ring_signals // 2),
            is_announced=lambda: self._subscription.is_open,
        )
        receivers = {
            FEED_CHANNEL: reading(decode_batch, self._source.offer),
            DECISIONS_CHANNEL: reading(decode_decisions, self.decisions.publish),
            self._holders.channel: self._holders.receive,
        }
        self._subscription = Subscription(redis, receivers, on_open=self._follow, on_lost=self._distrust)
        self._resumer = Resumer(self._fanout, self._ring, history, self._source, self._store, self._holders)
        self._drain_ends_at: float | None = None
        self._has_followed = False
        self._task: asyncio.Task[None] | None = None
        self._context = contextvars.copy_context()

    @property
    def is_ready(self) -> bool:
        """Whether streams can be opened: the feed's offset is known."""
        return self._source.loaded.is_set() and self._drain_ends_at is None

    @property
    def is_connected(self) -> bool:
        """Whether Redis announces new signals; without it they come from Postgres, within a second."""
        return self._subscription.is_open

    async def start(self) -> None:
        """Follow the feed. Returns at once; `is_ready` tells when streams can be opened."""
        self._presence.start()
        self._heartbeats.start()
        self._task = spawn(self._fanout.run(self._heartbeats.between_batches), name="fan-out")
        self._subscription.start()
        self._source.start(self._ring_signals, self._begin)

    async def stop(self) -> None:
        """Close all streams and end all tasks."""
        self._heartbeats.stop()
        await self._subscription.stop()
        await self._source.stop()
        await cancel(self._task)
        for client in list(self._clients.values()):
            self._fanout.drop(client)
        self._fanout.sweep(float("inf"))
        self.decisions.close(1012, "SERVER_DRAINING")
        await self._presence.stop()

    async def drain(self, seconds: float) -> None:
        """Open no more streams and end those that are open, spreading their retry times over `seconds`.

        Returns when all clients have received the end, or a few seconds have passed.
        """
        loop = asyncio.get_running_loop()
        self._drain_ends_at = loop.time() + seconds
        self.decisions.close(1012, "SERVER_DRAINING")
        latest = max(1, round(seconds))
        clients = list(self._clients.values())
        for start in range(0, len(clients), DRAIN_BATCH):
            for client in clients[start : start + DRAIN_BATCH]:
                self._fanout.end(client, "SERVER_DRAINING", random.randint(1, latest))  # noqa: S311
            await asyncio.sleep(0)
        try:
            async with asyncio.timeout_at(self._drain_ends_at):
                await self._fanout.all_ended()
        except TimeoutError:
            pass

    async def admit(
        self, viewer: Viewer, wanted: SignalFilter, last_event_id: str | None, *, is_reconnect: bool = False
    ) -> StreamSession:
        """Admit a stream that may be opened now, with its session new or resumed.

        `is_reconnect`: the client says that the connection on which it received that event is over.

        It counts as open: it must be given to `open_stream`, `open_socket` or `abandon`. Raises RateLimited,
        Unavailable.
        """
        if self._drain_ends_at is not None:
            left = self._drain_ends_at - asyncio.get_running_loop().time()
            raise Unavailable("The server is shutting down", retry_after=max(1, round(left)))
        if not self._source.loaded.is_set():
            raise Unavailable("The feed is starting")
        await self._count_in(viewer, last_event_id, is_reconnect)
        opened: StreamSession | None = None
        try:
            found = await self._resumer.resume(viewer, wanted, last_event_id, is_reconnect=is_reconnect)
            opened = found if isinstance(found, StreamSession) else await self._begin_session(viewer, wanted, found)
            await self.limits.share(viewer, opened.session)
            return opened
        except BaseException:
            if opened is not None:
                self._holders.release(opened.session)
            self.limits.leave(viewer)
            raise

    def session_key(self, last_event_id: str) -> str | None:
        """Return Redis's key that exists while an event id's session does; None: it exists, or is unknowable."""
        session, _ = self._resumer.parse(last_event_id)
        return None if session in self._clients else self._store.key_of(session)

    def open_stream(self, opened: StreamSession, connection: socket.socket, head: bytes, *, chunked: bool) -> None:
        """Send `head` and then events over the socket, in chunks if asked to, until either side closes it."""
        client = SseClient(opened, connection)
        # In the process's own context: each callback keeps the one it was made in, and a request's is not small.
        self._context.run(partial(client.open, head, chunked=chunked))
        self._context.run(self._enter, client, opened)

    def open_socket(self, opened: StreamSession, pushed: PushedSocket) -> None:
        """Send events as messages over a WebSocket, until either side closes it."""
        client = SocketClient(opened, pushed)
        client.open()
        self._enter(client, opened)

    def abandon(self, opened: StreamSession) -> None:
        """Release an admitted stream whose client disconnected before it was opened."""
        self._holders.release(opened.session)
        self.limits.leave(opened.viewer, opened.session)

    def end_streams(self, code: str, *, user_id: str | None = None, session_id: str | None = None) -> int:
        """End the streams of a user, or of one login session, with SESSION_REVOKED or FORBIDDEN; returns how many."""
        assert user_id is not None or session_id is not None
        found = [
            client
            for client in self._clients.values()
            if (user_id is None or client.viewer.user_id == user_id)
            and (session_id is None or client.viewer.session_id == session_id)
        ]
        for client in found:
            self._fanout.end(client, code)
        return len(found)

    def _begin(self, place: int, items: list[FeedSignal]) -> None:
        self._ring.start(place)
        self._ring.append(map(EncodedSignal, items))
        self._fanout.start(self._ring.last)

    def _deliver(self, items: list[FeedSignal]) -> None:
        self._ring.append(map(EncodedSignal, items))
        self._fanout.wake()

    def _distrust(self) -> None:
        self._source.distrust()
        self._store.distrust_redis()

    def _follow(self) -> None:
        self._source.distrust()
        # Redis may have been restarted, and may have lost its data. A starting gateway has stored nothing yet.
        if self._has_followed:
            self._store.distrust_redis()
        self._has_followed = True
        spawn(self._heartbeats.record_all(), name="record all sessions")

    async def _begin_session(self, viewer: Viewer, wanted: SignalFilter, anew: Anew) -> StreamSession:
        session = b"sess-" + secrets.token_hex(8).encode()
        cursor = self._fanout.place if anew.cursor is None else anew.cursor
        checkpoints = [(1, cursor)]
        opened = StreamSession(
            viewer, wanted, session, n=0, cursor=cursor, epoch=1, checkpoints=checkpoints, resume_error=anew.error
        )
        await self._store.save([(session, opened.record())])
        return opened

    async def _count_in(self, viewer: Viewer, last_event_id: str | None, is_reconnect: bool) -> None:
        # A client that reconnects before its old connection has been found dead must not be one too many.
        session, n = self._resumer.parse(last_event_id)
        claimant, old = Claimant(session, n, is_reconnect), self._clients.get(session)
        if old is None or old.viewer.user_id != viewer.user_id or not await self._holders.is_held_here(claimant):
            self.limits.enter(viewer)
            return
        try:
            self.limits.enter(viewer)
        except RateLimited:
            # A proxy keeps the connections of clients that have vanished, and acknowledges for them.
            if not old.viewer.is_proxied:
                raise
            self._fanout.drop(old)
            self.limits.enter(viewer)

    def _drop(self, client: StreamClient) -> None:
        self._fanout.drop(client)

    def _enter(self, client: StreamClient, opened: StreamSession) -> None:
        self._holders.release(client.session)
        other = self._clients.get(client.session)  # resumed here twice at once: the later take-over counts
        if other is not None and other.epoch > client.epoch:
            client.close()
            self.limits.leave(client.viewer)
            return
        if other is not None:
            self._fanout.drop(other)
        self._set_deadline(client)
        self._clients[client.session] = client
        self._presence.enter(client.viewer)
        STREAMS_OPEN.labels(client.kind).inc()
        self._fanout.add(client, opened.filter)
        self._heartbeats.add(client)
        document = {
            "session_id": client.session.decode(),
            "timestamp": rfc3339(now()),
            "is_demo": client.viewer.is_demo,
            "resumed": opened.is_resumed,
            "filters": opened.filter.to_document(),
        }
        if opened.resume_error is not None:
            document["resume_error"] = opened.resume_error
        self._fanout.begin(client, b"session_start", Payload(orjson.dumps(document)))

    def _set_deadline(self, client: StreamClient) -> None:
        moment = asyncio.get_running_loop().time()
        spread = random.uniform(1 - LIFETIME_SPREAD, 1 + LIFETIME_SPREAD)  # noqa: S311
        client.deadline, client.deadline_code = moment + self._max_seconds * spread, "MAX_LIFETIME"
        if client.viewer.expires_at is not None:
            expires = moment + client.viewer.expires_at - time.time()
            if expires < client.deadline:
                client.deadline, client.deadline_code = expires, "TOKEN_EXPIRED"

    def _forget(self, client: StreamClient) -> None:
        # The session's newest client may already be another one.
        if self._clients.get(client.session) is client:
            del self._clients[client.session]
        self.limits.leave(client.viewer, client.session)
        self._presence.leave(client.viewer)
        STREAMS_OPEN.labels(client.kind).dec()
        self._store.remember(client.session, SessionRecord.of(client))
