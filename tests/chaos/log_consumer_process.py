"""A shard of providers/{k} in a process that tests kill: `python -m tests.chaos.log_consumer_process …`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from actors.ledger.messages import LEDGER
from actors.providers.messages import PROVIDERS
from actors.providers.providers import Providers
from config.settings import Settings
from tests.support.local_actors import local_actors
from tests.support.quiet_ledger import quiet_ledger


async def run(database_url: str, redis_url: str, shard: int, shards: int, data_dir: Path) -> None:
    """Follow the log until it is killed."""
    settings = Settings.load(env_file=None).replace(database_url=database_url, redis_url=redis_url)
    settings = settings.replace(data_dir=data_dir)
    # The log has one owner: it is killed with the first shard.
    async with local_actors(settings, {} if shard else {LEDGER: quiet_ledger()}) as actors:
        await actors.start(PROVIDERS, Providers(), settings, shard=shard, shards=shards)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5])))
