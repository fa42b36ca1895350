"""Measure what the owner of the log does for each signal, and how long a stranger takes to verify the log.

python -m tests.benchmarks.bench_log
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from uuid import UUID

from actors.ledger.log_writer import LogWriter
from actors.records.entries import AnyEntry, LoggedQuote, SignalEntry
from config.settings import Settings
from db._migrate import migrate
from db._postgres import create_pool, transaction
from server.verify.command import VerifyOptions, verify
from tests.support.log_factory import log_world
from tests.support.services import postgres_server, valkey_server

PAGE, PAGES, ROUNDS = 1_000, 20, 5
AT = datetime(2026, 11, 2, 12, 0, 0, 250_000, UTC)


def signal(number: int) -> SignalEntry:
    """Return an entry with everything that one usually has."""
    quote = LoggedQuote(Decimal("67410.5"), Decimal("67411.5"), Decimal(67411), AT, "hyperliquid")
    return SignalEntry(
        number, UUID(int=number), UUID(int=number % 97), "crypto", "BTC", "OPEN_SIGNAL", "long", Decimal("67420.25"),
        AT, AT, 87, "ab" * 32, "lens", quote=quote, record_price=Decimal("67420.25"), opens=True,
        take_profit=(Decimal(70000),), stop_loss=Decimal(66000), verdicts=("cd" * 32,),
    )  # fmt: skip


def pages() -> list[list[AnyEntry]]:
    """Return the entries, a page for each transaction."""
    return [[signal(number) for number in range(start, start + PAGE)] for start in range(1, PAGE * PAGES, PAGE)]


def in_memory() -> None:
    """Print the time for the leaf, its hash and the tree."""
    best = float("inf")
    for _ in range(ROUNDS):
        writer, entries = LogWriter(), pages()
        began = time.process_time()
        for page in entries:
            rows, _ = writer.grow(page)
        best = min(best, time.process_time() - began)
    size = sum(len(row.body) for row in rows) / len(rows)
    print(f"leaf of {size:.0f} bytes, hash and tree: {1e6 * best / (PAGE * PAGES):.1f} µs a signal")


async def stored(url: str) -> None:
    """Print the time with the transactions, of the clock and of this process's CPU."""
    pool = await create_pool(url, 2, name="bench")
    writer, entries = LogWriter(), pages()
    began, cpu = time.perf_counter(), time.process_time()
    for page in entries:
        async with transaction(pool) as conn:
            await writer.append(conn, page)
    each = 1e6 / (PAGE * PAGES)
    print(
        f"with transactions of {PAGE}: {each * (time.process_time() - cpu):.1f} µs of CPU, "
        f"{each * (time.perf_counter() - began):.1f} µs in all, a signal"
    )
    await pool.close()


async def verified(settings: Settings, folder: Path) -> None:
    """Print the time of a first visit and of a second one, over HTTP, with what the gateway takes in this process."""
    async with log_world(settings) as world:
        for page in pages():
            await world.owner.append(page)
        url = f"http://127.0.0.1:{world.client.port}"
        for visit in ("first", "second"):
            began = time.perf_counter()
            await verify(VerifyOptions(url, folder=folder), lambda _: None)
            each = 1e6 * (time.perf_counter() - began) / (PAGE * PAGES)
            print(f"verifying {PAGE * PAGES} entries, {visit} visit, gateway included: {each:.0f} µs an entry")


def main() -> None:
    """Run."""
    in_memory()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.chmod(0o755)
        url = stack.enter_context(postgres_server(folder / "postgres"))
        redis_url = stack.enter_context(valkey_server(folder / "valkey"))
        asyncio.run(migrate(url))
        asyncio.run(stored(url))
        asyncio.run(emptied(url))
        settings = Settings.load(env_file=None).replace(database_url=url, redis_url=redis_url, data_dir=folder / "data")
        asyncio.run(verified(settings, folder / "kept"))


async def emptied(url: str) -> None:
    """Empty the log."""
    pool = await create_pool(url, 1, name="bench")
    async with transaction(pool) as conn:
        await conn.execute("TRUNCATE log_entries, log_tiles, log_checkpoints")
        await conn.execute("UPDATE log_state SET size = 0, feed_seq = 0")
    await pool.close()


if __name__ == "__main__":
    main()
