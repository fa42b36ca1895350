"""The servers to walk on: one that runs already, or an own system whose dependencies can be broken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from config.settings import Settings
from tests.peers.hyperliquid import HyperliquidPeer, edited
from tests.peers.hyperliquid import status as venue_answers
from tests.peers.model_apis import GOOD, ModelPeer, says
from tests.support.services import Server, postgres_server

BROKEN_SYMBOL = "SOL"
MODELS = ("chatgpt", "gemini")
GEMINI_CONFIDENCE = 0.72  # in the document's example of an event


@dataclass
class World:
    """A server at `url`, without any access to its dependencies."""

    url: str


class OwnWorld(World):
    """A whole system whose models answer as the document's do, and whose dependencies can be broken.

    It believes this machine's X-Forwarded-For, so that a request can come from anywhere.
    """

    def __init__(self, url: str, database_url: str, venue: HyperliquidPeer, postgres: ExitStack) -> None:
        super().__init__(url)
        self._database_url = database_url
        self._venue = venue
        self._postgres = postgres

    def break_market(self) -> None:
        """Let the market data of BROKEN_SYMBOL fail from now on."""
        self._venue.fault(venue_answers(503), coin=BROKEN_SYMBOL)
        self._venue.fault(edited(self._venue, lambda mids: mids.update({BROKEN_SYMBOL: None})), "allMids")

    def mend_market(self) -> None:
        """Let all market data be available again."""
        self._venue.mend()

    @asynccontextmanager
    async def without_table(self, name: str) -> AsyncIterator[None]:
        """Rename a table for a while, as after a migration that went wrong."""
        conn = await asyncpg.connect(self._database_url)
        try:
            await conn.execute(f"ALTER TABLE {name} RENAME TO {name}_away")
            try:
                yield
            finally:
                await conn.execute(f"ALTER TABLE {name}_away RENAME TO {name}")
        finally:
            await conn.close()

    async def lose_postgres(self) -> None:
        """End Postgres for good."""
        await asyncio.to_thread(self._postgres.close)


@asynccontextmanager
async def own_world(root: Path) -> AsyncIterator[OwnWorld]:
    """Start an own world under `root`, which takes some 20 s."""
    async with AsyncExitStack() as stack:
        postgres = stack.enter_context(ExitStack())
        database_url = postgres.enter_context(postgres_server(root / "postgres"))
        venue = await stack.enter_async_context(HyperliquidPeer())
        models = await stack.enter_async_context(ModelPeer())
        models.always("gemini", says({**GOOD, "confidence": GEMINI_CONFIDENCE}))
        settings = models.settings(Settings.load(None), *MODELS).to_environment()
        keys = [name for name in settings if name.endswith(("_API_KEY", "_BASE_URL")) and "RESEND" not in name]
        server = Server(
            root / "data",
            **{**{name: settings[name] for name in keys}, "HYPERLIQUID_BASE_URL": venue.base_url},
            DATABASE_URL=database_url,
            LENS_MODELS=",".join(MODELS),
            LENS_RETRY_BASE_SECONDS="0.2",
            LENS_RETRY_MAX_SECONDS="0.4",
            MARKET_DATA="hyperliquid",
            TRUSTED_PROXIES="127.0.0.0/8",
        )
        stack.enter_context(server)
        server.start()
        await asyncio.to_thread(server.wait_ready, 90)
        yield OwnWorld(server.url, database_url, venue, postgres)
