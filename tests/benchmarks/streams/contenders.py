"""The servers that are compared: each one's start, missing programs, and publishing."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from redis.asyncio import Redis

from config.settings import Settings
from db._postgres import create_pool
from db._redis import create_redis
from schemas.feed import FeedSignal
from server.supervisor.ports import free_ports
from tests.benchmarks.streams.machine import SERVER_CORE, Child, allow_many_files, child, python
from tests.benchmarks.streams.readers import END
from tests.support.streams import ALICE, Draft, Publisher, _item

HERE = Path(__file__).parent
PEERS_FOLDER = Path(__file__).resolve().parents[3] / ".peers"
NCHAN_MODULES = (
    "/usr/lib/nginx/modules/ngx_nchan_module.so",
    "/usr/lib64/nginx/modules/ngx_nchan_module.so",
    "/etc/nginx/modules/ngx_nchan_module.so",
)
CHANNEL = "scored-signals"  # as the document names it; each server has one of its own
NOTE = "x" * (900 - len(END)) + END[:-2].decode()  # with the rest, 1 kB


@dataclass(frozen=True)
class Backends:
    """The services that the servers share: a database, a Redis, a folder for temporary files."""

    settings: Settings
    folder: Path


class Contender(ABC):
    """A running server. `port` is where it listens, `pid` the process whose family's cost is counted.

    `paths`: what clients ask for; client i takes paths[i % len(paths)], all of which match all signals.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    health: ClassVar[str] = "/health"
    paths: ClassVar[Sequence[str]]
    idle_clients: ClassVar[int] = 10_000  # as many as it is asked to hold
    is_overwhelmed: ClassVar[bool] = False  # by the steady load
    has_filters: ClassVar[bool] = False

    def __init__(self, process: Child, port: int) -> None:
        self.port = port
        self._process = process
        self._place = 0

    @property
    def pid(self) -> int:
        """The process that was started."""
        return self._process.pid

    @classmethod
    @abstractmethod
    def missing(cls) -> str | None:
        """Return what has to be installed before the start; None if nothing is missing."""

    @classmethod
    @abstractmethod
    def start(cls, backends: Backends) -> AsyncIterator[Contender]:
        """Start it."""

    async def prepare(self, count: int) -> list[FeedSignal]:
        """Store the signals that come next, if the server needs that before they are published."""
        first = self._place + 1
        self._place += count
        return [_item(place, draft()) for place in range(first, first + count)]

    @abstractmethod
    async def tell(self, items: Sequence[FeedSignal]) -> None:
        """Publish them, all at once."""

    async def settle(self, clients: int) -> None:  # noqa: B027 - most have nothing to wait for
        """Wait until that many clients would receive a signal that is published now."""


def draft() -> Draft:
    """Return a signal of 1 kB."""
    return Draft(provider_id=ALICE, note=NOTE)


class TradeStream(Contender):
    """This server: one gateway process, PostgreSQL and Valkey; ids, filters, heartbeats and resuming on."""

    name = "tradestream"
    title = "TradeStream"
    has_filters = True
    # Eight filters that all match: as many groups of clients.
    paths = tuple(
        f"/api/signals/stream{query}"
        for query in (
            "", "?min_score=10", "?min_score=50", "?categories=crypto", "?categories=crypto,forex",
            "?asset_types=crypto", f"?provider_ids={ALICE}", f"?categories=crypto&min_score=20&provider_ids={ALICE}",
        )
    )  # fmt: skip

    def __init__(self, process: Child, port: int, publisher: Publisher) -> None:
        super().__init__(process, port)
        self._publisher = publisher

    @classmethod
    def missing(cls) -> str | None:
        """Return None: nothing has to be installed."""
        return None

    @classmethod
    @asynccontextmanager
    async def start(cls, backends: Backends) -> AsyncIterator[TradeStream]:
        """Start a gateway process."""
        settings = backends.settings
        assert settings.database_url is not None
        assert settings.redis_url is not None
        async with AsyncExitStack() as stack:
            command = python("tests.benchmarks.stream_gateway")
            process = stack.enter_context(child(*command, environment=settings.to_environment(), core=SERVER_CORE))
            port = int(await process.hear())
            pool, redis = await create_pool(settings.database_url, 2, name="bench"), create_redis(settings.redis_url)
            stack.callback(pool.terminate)
            stack.push_async_callback(redis.aclose)
            yield cls(process, port, Publisher(pool, redis))

    async def prepare(self, count: int) -> list[FeedSignal]:
        """Insert and commit them, as the publish stage does."""
        self._publisher.published.clear()
        await self._publisher.publish(*[draft()] * count, tell=False)
        return [item for item, _ in self._publisher.published]

    async def tell(self, items: Sequence[FeedSignal]) -> None:
        """Publish one message to Redis, as the publish stage does."""
        await self._publisher.tell(items)


class _OverRedis(Contender):
    # One that follows the document's Redis channel: a message for each signal.
    def __init__(self, process: Child, port: int, redis: Redis) -> None:
        super().__init__(process, port)
        self._redis = redis

    @classmethod
    def channel(cls) -> str:
        """Return its Redis channel."""
        return f"{CHANNEL}:{cls.name}"

    async def tell(self, items: Sequence[FeedSignal]) -> None:
        """Publish the messages to Redis in one pipeline."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for item in items:
                pipe.publish(self.channel(), item.data)
            await pipe.execute()


class FastApi(_OverRedis):
    """The server that the public document sketches: a Redis subscription for each client."""

    name = "fastapi"
    title = "FastAPI + sse-starlette"
    paths = ("/api/signals/stream",)
    idle_clients = 2_000  # each holds a connection to Redis too
    is_overwhelmed = True

    @classmethod
    def missing(cls) -> str | None:
        """Return the missing Python packages."""
        absent = [name for name in ("fastapi", "sse_starlette", "uvicorn") if importlib.util.find_spec(name) is None]
        return f"the Python packages {', '.join(absent)} (`make bench-peers`)" if absent else None

    @classmethod
    @asynccontextmanager
    async def start(cls, backends: Backends) -> AsyncIterator[FastApi]:
        """Start uvicorn with one worker, on uvloop and httptools."""
        url, [port] = backends.settings.redis_url, free_ports(1)
        assert url is not None
        command = python("tests.benchmarks.streams.peers.fastapi_server", str(port), url, cls.channel())
        with child(*command, core=SERVER_CORE) as process:
            await process.hear()
            redis = create_redis(url)
            try:
                yield cls(process, port, redis)
            finally:
                await redis.aclose()

    async def settle(self, clients: int) -> None:
        """Wait until all clients are subscribed: one that has been answered may not be yet."""
        async with asyncio.timeout(60):
            while True:
                [(_, subscribed)] = await self._redis.pubsub_numsub(self.channel())
                if subscribed >= clients:
                    return
                await asyncio.sleep(0.05)


class BetterSse(_OverRedis):
    """Node with better-sse, one process."""

    name = "better-sse"
    title = "Node + better-sse"
    paths = ("/api/signals/stream",)

    @classmethod
    def missing(cls) -> str | None:
        """Return the missing Node or npm packages."""
        if shutil.which("node") is None:
            return "node"
        absent = [name for name in ("better-sse", "redis") if not (PEERS_FOLDER / "node_modules" / name).is_dir()]
        return f"the npm packages {', '.join(absent)} (`make bench-peers`)" if absent else None

    @classmethod
    @asynccontextmanager
    async def start(cls, backends: Backends) -> AsyncIterator[BetterSse]:
        """Start one Node process."""
        url, [port] = backends.settings.redis_url, free_ports(1)
        assert url is not None
        script, environment = str(HERE / "peers" / "better_sse.mjs"), {"BENCH_PEERS": str(PEERS_FOLDER)}
        with child("node", script, str(port), url, cls.channel(), environment=environment, core=SERVER_CORE) as process:
            await process.hear()
            redis = create_redis(url)
            try:
                yield cls(process, port, redis)
            finally:
                await redis.aclose()


class Nchan(Contender):
    """nginx with the nchan module, one worker; signals are posted to it."""

    name = "nchan"
    title = "nginx + nchan"
    paths = ("/stream",)

    def __init__(self, process: Child, port: int, streams: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
        super().__init__(process, port)
        self._reader, self._writer = streams

    @classmethod
    def missing(cls) -> str | None:
        """Return the missing nginx or module."""
        if _nginx() is None or _nchan_module() is None:
            return "nginx with nchan (Debian: `apt-get install nginx libnginx-mod-nchan`)"
        return None

    @classmethod
    @asynccontextmanager
    async def start(cls, backends: Backends) -> AsyncIterator[Nchan]:
        """Start a master and a worker."""
        program, [port] = _nginx(), free_ports(1)
        assert program is not None
        folder = backends.folder / f"nchan-{port}"
        folder.mkdir()
        text = (HERE / "peers" / "nchan.conf").read_text().format(
            module=_nchan_module(), folder=folder, port=port, files=allow_many_files(),
            user="user root root;" if os.geteuid() == 0 else "",
        )  # fmt: skip
        (folder / "nginx.conf").write_text(text)
        command = (program, "-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf"))
        with child(*command, core=SERVER_CORE, ends_with_stdin=False) as process:
            streams = await _connected(port)
            try:
                yield cls(process, port, streams)
            finally:
                streams[1].close()

    async def tell(self, items: Sequence[FeedSignal]) -> None:
        """Send a POST for each, pipelined over one connection."""
        self._writer.write(b"".join(_post(item.data) for item in items))
        for _ in items:
            head = await self._reader.readuntil(b"\r\n\r\n")
            assert head.startswith((b"HTTP/1.1 201", b"HTTP/1.1 202")), head
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await self._reader.readexactly(int(length.split(b":")[1]))


def _post(data: bytes) -> bytes:
    return (
        b"POST /publish HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
        b"X-EventSource-Event: signal\r\nContent-Length: %d\r\n\r\n%b" % (len(data), data)
    )


async def _connected(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    for _ in range(100):
        try:
            return await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            await asyncio.sleep(0.05)
    raise AssertionError("nginx does not listen")


def _nginx() -> str | None:
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")  # noqa: TID251 - as a shell looks


def _nchan_module() -> str | None:
    return next((path for path in NCHAN_MODULES if Path(path).exists()), None)


EVERY: Sequence[type[Contender]] = (TradeStream, Nchan, BetterSse, FastApi)
