"""`ingest` and `lens/publish` in a process of their own, so that a test can kill it: `python -m …` with settings."""

from __future__ import annotations

import asyncio
import sys

from actors.ingest import INGEST
from actors.ingest.ingest import Ingest
from actors.lens.messages import PUBLISH
from actors.lens.publish import Publish
from config.log import configure_logging
from config.settings import Settings
from tests.support.local_actors import local_actors


async def main() -> None:
    """Run until killed."""
    async with local_actors(Settings.load(env_file=None), {INGEST: Ingest(), PUBLISH: Publish()}):
        await asyncio.Event().wait()


if __name__ == "__main__":
    configure_logging("INFO", "text")
    sys.exit(asyncio.run(main()))
