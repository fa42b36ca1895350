"""Gateways, publishers and readers for the tests of the streams: real servers, real sockets."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import urlencode
from uuid import UUID

import jwt
import orjson
from msgspec.structs import asdict
from redis.asyncio import Redis
from tornado.netutil import bind_sockets

from actors.lens.publication import NO_TERMS
from config import clock
from config.clock import rfc3339
from config.ids import uuid7
from config.settings import Settings
from db._postgres import Pool, create_pool, transaction
from db._redis import REDIS_ERRORS, create_redis
from db.signals.feed import fetch_after
from db.signals.retractions import get_retractable, store_retraction
from db.signals.writes import PublishedSignal, ensure_system_providers, insert_signals, take_feed_seq
from handlers._http.access import AUDIENCE, ISSUER
from handlers._http.limits import Limiter
from handlers._http.services import Services
from handlers.streams import LiveFeed
from schemas.feed import FEED_CHANNEL, FeedSignal, encode_batch
from server._http1 import HttpServer
from server.app import Application, http_server

CATEGORY_OF = {
    "crypto": "crypto",
    "stock": "equities",
    "option": "equities",
    "etf": "equities",
    "forex": "forex",
    "prediction": "prediction",
}
ALICE = UUID("01900000-0000-7000-8000-00000000a11c")
BOB = UUID("01900000-0000-7000-8000-000000000b0b")


@dataclass
class Gateway:
    """A gateway in this process: its feed and its port."""

    feed: LiveFeed
    port: int
    pool: Pool
    redis: Redis
    application: Application
    http: HttpServer


class NoActors:
    """A registry without actors, since streams ask none."""

    async def probe(self) -> dict[str, Any]:
        """Report that all actors are well."""
        return {}


@asynccontextmanager
async def gateway(settings: Settings, *, port: int = 0, **options: Any) -> AsyncIterator[Gateway]:
    """Run a gateway with everything that streams need, on a `port` that it may share; `options` are Feed's."""
    assert settings.database_url is not None
    assert settings.redis_url is not None
    async with AsyncExitStack() as stack:
        pool = await create_pool(settings.database_url, 4, name="test gateway")
        stack.callback(pool.terminate)
        redis = create_redis(settings.redis_url)
        stack.push_async_callback(redis.aclose)
        limiter = Limiter(redis, standard_limit=settings.rate_limit_per_minute, enabled=settings.rate_limit_enabled)
        feed = LiveFeed(settings, pool, redis, **options)
        application = Application(settings)
        actors, accounts = cast("Any", NoActors()), cast("Any", None)
        application.gateway.services = Services(settings, pool, redis, actors, feed, limiter, accounts)
        application.gateway.lifecycle.state = "serving"
        sockets = bind_sockets(port, "127.0.0.1", reuse_port=bool(port))
        bound_port = sockets[0].getsockname()[1]
        server = http_server(application)
        await server.listen(sockets, backlog=1024)
        await feed.start()
        stack.push_async_callback(server.close_all_connections)
        stack.push_async_callback(server.stop)
        stack.push_async_callback(feed.stop)
        yield Gateway(feed, bound_port, pool, redis, application, server)


async def until(ask: Callable[[], Any], *, seconds: float = 30.0, what: str = "") -> Any:
    """Poll until the answer (awaited, if it must be) is true. Raises AssertionError after `seconds`."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        answer = ask()
        if isinstance(answer, Awaitable):
            answer = await answer
        if answer:
            return answer
        assert asyncio.get_running_loop().time() < deadline, f"still {answer!r} after {seconds} s {what}"
        await asyncio.sleep(0.01)


async def ready(*gateways: Gateway) -> None:
    """Wait until the gateways can open streams and follow Redis."""
    await until(lambda: all(each.feed.is_ready and each.feed.is_connected for each in gateways))


@dataclass
class Draft:
    """A signal to publish."""

    asset_type: str = "crypto"
    score: int = 50
    provider_id: UUID = ALICE
    note: str = ""


class Publisher:
    """A publisher that works as the publish stage does: it takes feed_seqs, inserts, commits, notifies Redis."""

    def __init__(self, pool: Pool, redis: Redis) -> None:
        self._pool = pool
        self._redis = redis
        self.published: list[tuple[FeedSignal, Draft]] = []

    async def publish(self, *drafts: Draft, tell: bool = True) -> list[int]:
        """Publish as one batch; without `tell` Redis loses the message. Returns the feed_seqs."""
        async with transaction(self._pool, deadline_seconds=20) as conn:
            await ensure_system_providers(conn, {ALICE: "alice", BOB: "bob"})
            first = await take_feed_seq(conn, len(drafts))
            items = [_item(seq, draft) for seq, draft in enumerate(drafts, first)]
            await insert_signals(conn, [_row(item, draft) for item, draft in zip(items, drafts, strict=True)])
        self.published += zip(items, drafts, strict=True)
        if tell:
            await self.tell(items)
        return [item.feed_seq for item in items]

    async def retract(self, place: int, *, tell: bool = True) -> int:
        """Retract the signal at a feed_seq, as the publish stage does. Returns the retraction's feed_seq."""
        async with transaction(self._pool, deadline_seconds=20) as conn:
            signal_id = await conn.fetchval("SELECT id FROM signals WHERE feed_seq = $1", place)
            signal = await get_retractable(conn, signal_id)
            assert signal is not None
            own = await take_feed_seq(conn, 1)
            at = clock.now()
            await store_retraction(conn, own, signal, at, rfc3339(at))
            [item] = await fetch_after(conn, own - 1, 1)
        if tell:
            await self.tell([item])
        return own

    async def tell(self, items: Sequence[FeedSignal]) -> None:
        """Send the batch over Redis; a failure is ignored, as in the publish stage."""
        try:
            await self._redis.publish(FEED_CHANNEL, encode_batch(items))
        except REDIS_ERRORS:
            pass

    def places(self, matches: Callable[[Draft], bool] = lambda _: True) -> list[int]:
        """Return the feed_seqs of what was published, in order."""
        return [item.feed_seq for item, draft in sorted(self.published, key=lambda p: p[0].feed_seq) if matches(draft)]


def _item(seq: int, draft: Draft) -> FeedSignal:
    data = orjson.dumps({"id": str(seq), "asset_type": draft.asset_type, "score": draft.score, "note": draft.note})
    category = CATEGORY_OF[draft.asset_type]
    return FeedSignal(seq, category, draft.asset_type, draft.score, str(draft.provider_id), data)


def _row(item: FeedSignal, draft: Draft) -> PublishedSignal:
    return PublishedSignal(
        id=uuid7(),
        feed_seq=item.feed_seq,
        provider_id=draft.provider_id,
        asset_type=item.asset_type,
        asset_category=item.asset_category,
        symbol="BTC",
        action="buy",
        event_type="OPEN_SIGNAL",
        direction="long",
        entry_price=None,
        size=None,
        score=item.score,
        tier="NEUTRAL",
        confidence=None,
        factors=None,
        strategy_breakdown=None,
        market_context=None,
        reasoning="",
        commentary=None,
        asset_data={},
        feed_data=item.data.decode(),
        created_at=clock.now(),
        received_at=clock.now(),
        way_in="lens",
        **asdict(NO_TERMS),
    )


@dataclass
class Event:
    """A server-sent event."""

    name: str
    id: str | None
    data: dict[str, Any]

    @property
    def number(self) -> int:
        """Return n of `{session_id}:{n}`."""
        assert self.id is not None
        return int(self.id.partition(":")[2])

    @property
    def place(self) -> int:
        """Return a test signal's feed_seq."""
        return int(self.data["id"])


class Dechunked:
    """The body of a chunked response, as a stream reader."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._received = bytearray()

    async def readuntil(self, separator: bytes) -> bytes:
        """Read as StreamReader.readuntil does."""
        while separator not in self._received:
            size = int(await self._reader.readuntil(b"\r\n"), 16)
            data = await self._reader.readexactly(size + 2)
            assert data.endswith(b"\r\n")
            if size == 0:
                raise asyncio.IncompleteReadError(bytes(self._received), None)
            self._received += data[:-2]
        end = self._received.index(separator) + len(separator)
        found = bytes(self._received[:end])
        del self._received[:end]
        return found


@dataclass(eq=False)
class Reader:
    """A client of the stream that reads as an EventSource does."""

    reader: asyncio.StreamReader
    content: asyncio.StreamReader | Dechunked
    writer: asyncio.StreamWriter
    status: int
    headers: dict[str, str]
    raw_head: bytes
    retry: list[int] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    async def next(self, *, seconds: float = 15.0) -> Event | None:
        """Read the next event, None at the end of the stream."""
        async with asyncio.timeout(seconds):
            while True:
                try:
                    block = await self.content.readuntil(b"\n\n")
                except asyncio.IncompleteReadError:
                    return None
                event = self._parse(block)
                if event is not None:
                    self.events.append(event)
                    return event

    async def until(self, done: Callable[[Event], bool], *, seconds: float = 30.0) -> list[Event]:
        """Read all events up to one for which `done` is true."""
        found: list[Event] = []
        async with asyncio.timeout(seconds):
            while not found or not done(found[-1]):
                event = await self.next(seconds=seconds)
                assert event is not None, f"the stream ended after {found[-3:]}"
                found.append(event)
        return found

    async def signals(self, count: int, *, seconds: float = 30.0) -> list[int]:
        """Return the feed_seqs of the next `count` signals; other events are skipped."""
        found: list[int] = []
        async with asyncio.timeout(seconds):  # heartbeats go on for ever: a bound per event would be none
            while len(found) < count:
                event = await self.next(seconds=seconds)
                assert event is not None, f"the stream ended after {found[-3:]}"
                if event.name == "signal":
                    found.append(event.place)
        return found

    async def body(self) -> Any:
        """Return the JSON body of a refusal."""
        return orjson.loads(await self.reader.readexactly(int(self.headers["Content-Length"])))

    @property
    def last_id(self) -> str:
        """Return the id that a reconnect sends."""
        return next(event.id for event in reversed(self.events) if event.id is not None)

    @property
    def numbers(self) -> list[int]:
        """Return the number of each event that has one."""
        return [event.number for event in self.events if event.id is not None]

    async def close(self) -> None:
        """Close the connection."""
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except OSError:
            pass

    def _parse(self, block: bytes) -> Event | None:
        fields: dict[str, str] = {}
        for line in block.decode().rstrip("\n").split("\n"):
            name, _, value = line.partition(": ")
            fields[name] = value
        if "retry" in fields:
            self.retry.append(int(fields["retry"]))
        if "event" not in fields:
            return None
        return Event(fields["event"], fields.get("id"), orjson.loads(fields["data"]))


async def connect(
    port: int,
    *,
    method: str = "GET",
    version: str = "1.1",
    headers: dict[str, str] | None = None,
    receive_buffer: int | None = None,
    **query: object,
) -> Reader:
    """Ask for the stream, and read the answer's head. A small `receive_buffer` makes a slow reader slow soon."""
    target = "/api/signals/stream?" + urlencode(query)
    connection = socket.socket()
    connection.setblocking(False)
    if receive_buffer is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    try:
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
    except BaseException:
        connection.close()
        raise
    reader, writer = await asyncio.open_connection(sock=connection, limit=receive_buffer or 1 << 20)
    lines = [f"{method} {target} HTTP/{version}", "Host: test", *(f"{k}: {v}" for k, v in (headers or {}).items())]
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n")
    try:
        async with asyncio.timeout(10):
            head = await reader.readuntil(b"\r\n\r\n")
    except BaseException:
        writer.transport.abort()
        raise
    return answered(reader, writer, head)


def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> Reader:
    """Ask for a stream; return its client once the answer's head has been read."""
    status, *rest = head.decode().split("\r\n")
    fields = dict(line.split(": ", 1) for line in rest if line)
    content = Dechunked(reader) if fields.get("Transfer-Encoding") == "chunked" else reader
    return Reader(reader, content, writer, int(status.split()[1]), fields, head)


@asynccontextmanager
async def stream(port: int, **options: Any) -> AsyncIterator[Reader]:
    """Open a stream, and read its `session_start`."""
    reader = await connect(port, **options)
    try:
        assert reader.status == 200, await reader.body()
        start = await reader.next()
        assert start is not None
        assert start.name == "session_start"
        yield reader
    finally:
        await reader.close()


def drafts(count: int, **changes: Any) -> Iterable[Draft]:
    """Return equal signals."""
    return [Draft(**changes) for _ in range(count)]


def token(settings: Settings, user_id: str, *, seconds: float = 900, **claims: Any) -> str:
    """Return an access token of a user."""
    payload = {
        "sub": user_id, "email": "a@example.org", "name": "A", "is_demo": False, "is_provider": False,
        "email_verified": True, "permissions": ["read:signals"], "sid": str(uuid7()), "iat": int(time.time()),
        "exp": time.time() + seconds, "jti": str(uuid7()), "iss": ISSUER, "aud": AUDIENCE, **claims,
    }  # fmt: skip
    return jwt.encode(payload, settings.jwt_secret, algorithm=settings.jwt_algorithm)


async def says_only_later(reader: Reader, message: str) -> None:
    """Assert that the stream is deferred: only an error and a time to come back, and the client's last id is kept."""
    event = await reader.next()
    assert event is not None
    assert (event.name, event.id) == ("error", None)
    assert event.data == {"code": "SERVICE_UNAVAILABLE", "message": message, "retry_after": 1}
    assert 1000 <= reader.retry[0] <= 3000
    assert await reader.next() is None
