"""The owner of the log in a process that tests kill: `python -m tests.chaos.log_owner_process DB REDIS FOLDER`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from actors.ledger import checkpoints
from actors.ledger.ledger import LogOwner
from actors.ledger.messages import LEDGER
from config.settings import Settings
from tests.support.local_actors import local_actors


async def run(database_url: str, redis_url: str, folder: Path) -> None:
    """Follow the feed and sign until it is killed."""
    settings = Settings.load(env_file=None).replace(database_url=database_url, redis_url=redis_url, data_dir=folder)
    checkpoints.CHECKPOINT_SECONDS = 0.05  # type: ignore[misc]  # more checkpoints in a shorter test
    async with local_actors(settings, {}) as actors:
        await actors.start(LEDGER, LogOwner(), settings)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
