"""A gateway in a process of its own, for measuring: streams, health and nothing else. Prints its port, ends with stdin.

python -m tests.benchmarks.stream_gateway [PORT]; settings from the environment.
"""

from __future__ import annotations

import asyncio
import gc
import sys

import uvloop

from config.log import configure_logging
from config.settings import Settings
from tests.support.streams import gateway, ready


async def serve() -> None:
    """Serve until stdin is closed."""
    settings = Settings.load(env_file=None)
    async with gateway(settings, port=int(sys.argv[1]) if len(sys.argv) > 1 else 0) as server:
        await ready(server)
        gc.freeze()
        print(server.port, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    configure_logging("WARNING", "text")
    uvloop.run(serve())
