"""A log over a real Postgres: an owner that appends what it is given and signs, and the gateway that serves it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

from actors._runtime.context import ActorContext, Behaviour
from actors._runtime.messages import Envelope
from actors.ledger.checkpoints import Checkpoints
from actors.ledger.log_writer import LogWriter
from actors.records.entries import AnyEntry, EndEntry, LoggedQuote, SignalEntry
from actors.tlog.notes import Checkpoint, VerifierKey, open_checkpoint, parse_key
from config.settings import Settings
from db._postgres import Pool, create_pool
from tests.api.serving import Client, serving
from tests.support.local_actors import LocalActors

AT = datetime(2026, 11, 2, 12, tzinfo=UTC)
OWNER = "ledger"


def ends(count: int, first: int = 0) -> list[AnyEntry]:
    """Return small entries, each another."""
    numbers = range(first, first + count)
    return [EndEntry(UUID(int=n), UUID(int=n % 7), "stop_loss", 10**12, Decimal(n), AT) for n in numbers]


def signal_entry(feed_seq: int, **changes: object) -> SignalEntry:
    """Return the entry of a signal that opens a position in BTC."""
    fields = {
        "feed_seq": feed_seq,
        "signal_id": UUID(int=feed_seq),
        "provider_id": UUID(int=2),
        "asset_type": "crypto",
        "instrument": "BTC",
        "event_type": "OPEN_SIGNAL",
        "direction": "long",
        "declared_price": Decimal(42001),
        "received_at": AT,
        "published_at": AT,
        "score": 87,
        "texts": "ab" * 32,
        "way_in": "lens",
        "quote": LoggedQuote(Decimal(42000), Decimal(42001), Decimal("42000.5"), AT, "simulated"),
        "record_price": Decimal(42001),
        "opens": True,
    }
    return SignalEntry(**fields | changes)  # type: ignore[arg-type]


class AppendingOwner(Behaviour):
    """Owns the log, for tests: appends what it is told to, and signs when it is told to."""

    async def start(self, context: ActorContext) -> None:
        """See Behaviour."""
        await super().start(context)
        self.writer = LogWriter()
        self.checkpoints = Checkpoints(context)
        await self.checkpoints.start()

    async def stop(self) -> None:
        """See Behaviour."""
        await self.checkpoints.close()

    async def process(self, batch: Sequence[Envelope]) -> Sequence[object]:
        """See Behaviour."""
        return [None for _ in batch]

    async def append(self, entries: Sequence[AnyEntry], *, sign: bool = True) -> int:
        """Append entries, and sign the log; return the index of the first."""
        async with self.context.transaction(deadline_seconds=30) as conn:
            first = await self.writer.append(conn, entries)
        if sign:
            await self.checkpoints.sign()
        return first


class LogWorld:
    """The owner, the gateway, and a connection to their database."""

    def __init__(self, settings: Settings, actors: LocalActors, pool: Pool, client: Client) -> None:
        self.settings = settings
        self.actors = actors
        self.pool = pool
        self.client = client
        self.owner: AppendingOwner

    async def start(self, settings: Settings | None = None) -> None:
        """Start the owner, or replace it as after a crash."""
        if OWNER in self.actors.behaviours:
            await self.actors.kill(OWNER)
        self.owner = AppendingOwner()
        await self.actors.start(OWNER, self.owner, settings or self.settings)

    async def key(self) -> VerifierKey:
        """Return the public key that the gateway shows."""
        return parse_key((await self.client.get("/log/key")).body.decode())

    async def checkpoint(self) -> Checkpoint:
        """Return the checkpoint that the gateway shows, if the key signed it."""
        return open_checkpoint((await self.client.get("/log/checkpoint")).body.decode(), await self.key())

    async def get(self, path: str) -> bytes:
        """Return what the gateway answers."""
        response = await self.client.get(path)
        assert response.status == 200, response
        return response.body

    async def execute(self, statement: str, *arguments: object) -> None:
        """Change the database behind the owner's back."""
        async with self.pool.acquire() as conn:
            await conn.execute(statement, *arguments)


@asynccontextmanager
async def log_world(settings: Settings, *, started: bool = True) -> AsyncIterator[LogWorld]:
    """An owner and a gateway on the settings' database."""
    assert settings.database_url is not None
    pool = await create_pool(settings.database_url, 4, name="test")
    actors = LocalActors()
    try:
        async with serving(settings.replace(rate_limit_enabled=False), pool=pool) as client:
            world = LogWorld(settings, actors, pool, client)
            if started:
                await world.start()
            yield world
    finally:
        await actors.close()
        await pool.close()
