"""launchdarkly-eventsource, a client in Python that reconnects by itself; over aiohttp."""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from config.tasks import cancel, spawn
from tests.browser.clients import StreamClient


class Python(StreamClient):
    """A client that uses the package `launchdarkly-eventsource`."""

    is_told_everything = True

    @classmethod
    def missing(cls) -> str | None:
        """Return the package's name if it is missing."""
        return None if importlib.util.find_spec("ld_eventsource") else "the Python package launchdarkly-eventsource"

    @classmethod
    @asynccontextmanager
    async def follow(cls, url: str, folder: Path) -> AsyncIterator[Python]:
        """Follow the stream in a task."""
        from ld_eventsource.async_client import AsyncSSEClient
        from ld_eventsource.config import ErrorStrategy
        from ld_eventsource.config.async_connect_strategy import AsyncConnectStrategy

        client = cls()
        source = AsyncSSEClient(AsyncConnectStrategy.http(url), error_strategy=ErrorStrategy.always_continue())

        async def run() -> None:
            async for event in source.events:
                # Not its `last_event_id`, which an error, having none, inherits from the event before it.
                client.take(event.event, event.id, event.data)

        reading = spawn(run(), name="eventsource")
        try:
            yield client
        finally:
            await cancel(reading)
            await source.close()
