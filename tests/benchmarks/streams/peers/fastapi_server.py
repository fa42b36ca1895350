"""The stream as gateway-api.md sketches it: FastAPI, sse-starlette, a Redis subscription for each client.

python -m tests.benchmarks.streams.peers.fastapi_server PORT REDIS_URL CHANNEL; `ready` is printed when it listens.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import redis.asyncio
import uvicorn
from fastapi import FastAPI, Request
from pydantic import BaseModel
from sse_starlette.sse import EventSourceResponse

PORT, REDIS_URL, CHANNEL = int(sys.argv[1]), sys.argv[2], sys.argv[3]
app = FastAPI()


class Signal(BaseModel):
    """A scored signal."""

    id: str
    asset_type: str
    score: int
    note: str


async def subscribe_signals(channel: str) -> AsyncIterator[Signal]:
    """Subscribe to a Redis channel and yield signals."""
    client = redis.asyncio.from_url(REDIS_URL)
    pubsub = client.pubsub()
    await pubsub.subscribe(channel)
    try:
        async for message in pubsub.listen():
            if message["type"] == "message":
                yield Signal.model_validate_json(message["data"])
    finally:
        await pubsub.unsubscribe(channel)
        await client.aclose()


@app.get("/api/signals/stream")
async def stream(request: Request) -> EventSourceResponse:
    """Stream trading signals."""
    session_id = f"sess-{secrets.token_hex(8)}"

    async def events() -> AsyncIterator[dict[str, str]]:
        sequence = 1
        now = datetime.now(UTC).isoformat()
        start = {"session_id": session_id, "timestamp": now}
        yield {"event": "session_start", "id": f"{session_id}:1", "data": json.dumps(start)}
        async for signal in subscribe_signals(CHANNEL):
            if await request.is_disconnected():
                break
            sequence += 1
            yield {"event": "signal", "id": f"{session_id}:{sequence}", "data": signal.model_dump_json()}

    return EventSourceResponse(events())


@app.get("/health")
async def health() -> dict[str, str]:
    """Answer that the server is alive."""
    return {"status": "ok"}


class Server(uvicorn.Server):
    """A uvicorn that prints when it listens, and ends at once with its stdin."""

    async def startup(self, sockets: object = None) -> None:
        """Listen, and print that."""
        await super().startup()
        print("ready", flush=True)
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), os._exit, 0)


if __name__ == "__main__":
    config = uvicorn.Config(app, "127.0.0.1", PORT, log_level="error", access_log=False, backlog=4096, loop="uvloop")
    Server(config).run()
