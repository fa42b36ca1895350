"""Measure a gateway's memory under clients that ask and never read: before, at most, and after they have gone.

    python -m tests.benchmarks.bench_unread [--seconds 10] [--check]

The real application without its services, in a process of its own; `--check` exits with 1 if an attack costs more than
TARGET_MIB, or leaves more than that behind.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection

import psutil
import uvloop

TARGET_MIB = 128.0  # of all connections of one attack together, 200 of them at most
MIB = 1 << 20


@dataclass(frozen=True)
class Attack:
    """An attack: so many connections that each send the bytes over and over, and never read."""

    name: str
    connections: int
    request: bytes
    receive_buffer: int = 4096


def _get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


ATTACKS = [
    Attack("1 connection, /api/openapi.json", 1, _get("/api/openapi.json")),
    Attack("1 connection, /health", 1, _get("/health")),
    Attack("1 connection, POST of 60 KB to an unknown path", 1, b"POST /x HTTP/1.1\r\nHost: localhost\r\n"
           b"Content-Length: 60000\r\n\r\n" + b"x" * 60_000),
    Attack("50 connections, /api/openapi.json", 50, _get("/api/openapi.json")),
    Attack("200 connections, /api/docs/swagger-ui-bundle.js", 200, _get("/api/docs/swagger-ui-bundle.js")),
]  # fmt: skip


def _serve(pipe: Connection) -> None:
    async def serve() -> None:
        from tests.api.serving import serving

        async with serving() as client:
            pipe.send(client.port)
            await asyncio.get_running_loop().run_in_executor(None, pipe.recv)

    uvloop.run(serve())


async def _pour(port: int, attack: Attack, seconds: float) -> int:
    """Send until the server takes no more; return the bytes sent."""
    sent, ends_at = 0, time.monotonic() + seconds

    async def one() -> None:
        nonlocal sent
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=attack.receive_buffer)
        data = attack.request * max(1, 65536 // len(attack.request))
        try:
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            while time.monotonic() < ends_at:
                async with asyncio.timeout(max(0.01, ends_at - time.monotonic())):
                    writer.write(data)
                    await writer.drain()
                    sent += len(data)
        except (TimeoutError, ConnectionError):
            pass
        finally:
            await asyncio.sleep(max(0.0, ends_at - time.monotonic()))
            writer.transport.abort()
            del reader

    await asyncio.gather(*(one() for _ in range(attack.connections)))
    return sent


def _measure(attack: Attack, seconds: float) -> tuple[float, float, float]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=_serve, args=(theirs,))
    server.start()
    try:
        port = ours.recv()
        process = psutil.Process(server.pid)

        async def attacked() -> tuple[float, float, float, int]:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(_get("/api/openapi.json") + _get("/api/docs/swagger-ui-bundle.js") * 20)
            await reader.readuntil(b"\r\n\r\n")  # both are made once
            await asyncio.sleep(0.5)
            writer.close()
            await asyncio.sleep(0.2)
            before = most = process.memory_info().rss
            pouring = asyncio.get_running_loop().create_task(_pour(port, attack, seconds))
            while not pouring.done():
                await asyncio.wait([pouring], timeout=0.05)
                most = max(most, process.memory_info().rss)
            await asyncio.sleep(1.0)
            return before / MIB, most / MIB, process.memory_info().rss / MIB, pouring.result()

        before, most, after, sent = uvloop.run(attacked())
        print(
            f"{attack.name:<50} sent {sent / MIB:8.2f} MiB: {before:6.0f} → {most:6.0f} MiB, {after:6.0f} MiB after",
            flush=True,
        )
        ours.send(None)
        server.join(10)
        return before, most, after
    finally:
        server.kill()


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args(arguments)
    failed = False
    for attack in ATTACKS:
        before, most, after = _measure(attack, options.seconds)
        failed |= most - before > TARGET_MIB or after - before > TARGET_MIB
    if failed:
        print(f"more than {TARGET_MIB:.0f} MiB")
    return int(failed and options.check)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
