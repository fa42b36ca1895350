"""Compare the CPU of a signal whose steps are carried uncommitted with that of one that each stage commits.

    python -m tests.benchmarks.bench_carrying [--rounds 2]

The four stages in this process over a PostgreSQL of its own, without Ray and HTTP, fsync off: CPU only. In turn with
and without carrying, at 50 signals a second and in batches of 32 one after the other. Takes about a minute.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from contextlib import closing
from pathlib import Path

import asyncpg
import psutil

from actors.lens.enrich import Enrich
from actors.lens.evaluate import Evaluate
from actors.lens.intake import Intake
from actors.lens.messages import ENRICH, EVALUATE, INTAKE, PUBLISH
from actors.lens.publish import Publish
from config.settings import Settings
from db._migrate import migrate
from tests.support.lens_factory import submit, until
from tests.support.local_actors import local_actors
from tests.support.services import postgres_server, valkey_server

RATE = 50.0
COUNTS = {True: 250, False: 1600}  # paced, and as fast as it goes
BATCH = 32


class Committing(Enrich):
    """Enrich without carried steps; the stages after it then carry none, either."""

    async def prepare(self) -> None:
        """See Enrich."""
        await super().prepare()
        self.carries = False


def cpu_of(postgres: psutil.Process) -> tuple[float, float]:
    """Return the CPU seconds of this process, and of PostgreSQL with its ended processes."""
    own = psutil.Process().cpu_times()
    theirs = postgres.cpu_times()
    spent = theirs.user + theirs.system + theirs.children_user + theirs.children_system
    for child in postgres.children():
        times = child.cpu_times()
        spent += times.user + times.system
    return own.user + own.system, spent


async def measure(settings: Settings, postgres: psutil.Process, *, carries: bool, paced: bool) -> None:
    """Print the CPU cost of a signal."""
    conn = await asyncpg.connect(settings.database_url)
    stages = {
        INTAKE: Intake(),
        ENRICH: Enrich() if carries else Committing(),
        EVALUATE: Evaluate(),
        PUBLISH: Publish(),
    }
    stages[EVALUATE].carries = carries  # type: ignore[attr-defined]
    count, size = COUNTS[paced], 1 if paced else BATCH
    async with local_actors(settings, stages) as actors:
        intake = actors.ref(INTAKE)

        async def send(first: int, size: int) -> None:
            numbers = range(first, first + size)
            await intake.ask_batch([submit(symbol=f"S{n % 20}", source=f"s{n % 20}") for n in numbers])

        async def published(target: int) -> None:
            async def reached() -> bool:
                return bool(await conn.fetchval("SELECT last_seq FROM feed_counter") >= target)

            await until(reached, seconds=120)

        start = await conn.fetchval("SELECT last_seq FROM feed_counter")
        await send(0, 40)  # warm
        await published(start + 40)
        before, began = cpu_of(postgres), time.monotonic()
        for number in range(0, count, size):
            if paced:
                await asyncio.sleep(max(began + number / RATE - time.monotonic(), 0.0))
            await send(number, size)
        await published(start + 40 + count)
        own, theirs = (1000 * (after - was) / count for after, was in zip(cpu_of(postgres), before, strict=True))
    await conn.close()
    print(
        f"{'carried' if carries else 'committed':9}, {f'{RATE:g}/s' if paced else f'batches of {BATCH}':13}: "
        f"{own + theirs:6.2f} ms a signal, {own:5.2f} of the stages and {theirs:5.2f} of PostgreSQL"
    )


def main() -> None:
    """Parse and measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=2)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        root = Path(folder)
        root.chmod(0o755)
        with postgres_server(root / "postgres") as url, valkey_server(root / "valkey") as redis_url:
            asyncio.run(migrate(url))
            with closing(next(root.glob("**/postmaster.pid")).open()) as file:
                postgres = psutil.Process(int(file.readline()))
            settings = Settings.load(env_file=None).replace(
                environment="development", database_url=url, redis_url=redis_url, data_dir=root / "data"
            )
            for _ in range(rounds):
                for paced in (True, False):
                    for carries in (True, False):
                        asyncio.run(measure(settings, postgres, carries=carries, paced=paced))


if __name__ == "__main__":
    main()
