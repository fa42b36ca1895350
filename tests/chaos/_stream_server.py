"""A whole server whose gateways only stream: it starts in seconds without Ray, and the streams are real.

`python -m tests.chaos._stream_server` serves like `run.py serve`; with `gateway`, it is a gateway.
"""

from __future__ import annotations

import asyncio
import signal
import sys

import uvloop

from config.log import configure_logging
from config.settings import Settings
from server.supervisor.supervisor import serve
from tests.support.streams import gateway

COMMAND = (sys.executable, "-m", "tests.chaos._stream_server")


async def stream() -> None:
    """Stream until SIGTERM, then drain."""
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    settings = Settings.load(env_file=None)
    async with gateway(settings, port=settings.port) as server:
        await stopping.wait()
        await server.http.stop()  # as server/main does: who reconnects comes to the other gateway
        await server.feed.drain(settings.drain_seconds)
        await server.application.gateway.lifecycle.until_idle(1.0)


def main() -> None:
    """Run the server, or one gateway."""
    if sys.argv[1:] == ["gateway"]:
        configure_logging("INFO", "text")
        uvloop.run(stream())
    else:
        asyncio.run(serve(Settings.load(env_file=None), gateway_command=(*COMMAND, "gateway")))


if __name__ == "__main__":
    main()
