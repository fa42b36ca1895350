"""A gateway process listens at once, is ready when its services are, and drains on a signal."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from config.settings import Settings
from server.supervisor.ports import listening_hosts
from tests.api.serving import SIGNAL, Client
from tests.support.services import Ray, free_ports, ray_head

DRAIN_SECONDS = 3.0
DELAY_SECONDS = 2.0


@pytest.fixture
def ray(tmp_path: Path) -> Iterator[Ray]:
    """A Ray of this test's own: its actors live on, with this test's database."""
    with ray_head(tmp_path / "ray") as head:
        yield head


@contextmanager
def process(
    settings: Settings, environment: Mapping[str, str], **changes: Any
) -> Iterator[tuple[Client, subprocess.Popen[bytes]]]:
    """`python -m server.main` on a free port; killed if the test leaves it behind."""
    settings = settings.replace(port=free_ports(1)[0], drain_seconds=DRAIN_SECONDS, **changes)
    log = Path(settings.data_dir).with_suffix(".log")
    with log.open("wb") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "server.main"],
            env={**environment, **settings.to_environment()},
            stdout=output,
            stderr=output,
        )
    try:
        yield Client(settings.port, None), child  # type: ignore[arg-type]  # it runs elsewhere
    except BaseException:
        sys.stderr.write(log.read_text())
        raise
    finally:
        if child.poll() is None:
            child.kill()
        child.wait()


async def answers(client: Client, path: str, status: int, *, seconds: float = 60.0) -> Any:
    """Return the first answer with that status."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            response = await client.get(path)
            if response.status == status:
                return response
        except (OSError, asyncio.IncompleteReadError):
            response = None
        assert time.monotonic() < deadline, f"{path}: {response}"
        await asyncio.sleep(0.02)


async def ended(child: subprocess.Popen[bytes], *, seconds: float) -> int:
    """Return the exit status, within the time."""
    deadline = time.monotonic() + seconds
    while (status := child.poll()) is None:
        assert time.monotonic() < deadline, "it does not end"
        await asyncio.sleep(0.02)
    return status


async def test_a_gateway_listens_at_once_serves_when_ready_and_drains(settings: Settings, ray: Ray) -> None:
    changes = {"ray_address": ray.address, "drain_delay_seconds": DELAY_SECONDS}
    with process(settings, ray.environment, **changes) as (client, child):
        await answers(client, "/health", 200)
        starting = await client.get("/ready")
        assert starting.status == 503
        ready = await answers(client, "/ready", 200)
        assert ready.json["dependencies"] == {"redis": "ok", "postgres": "ok", "ray": "ok"}

        began = time.monotonic()
        accepted = await client.post("/api/v1/signals", SIGNAL)
        assert accepted.status == 201
        assert time.monotonic() - began < 0.5

        writer, stream = await _open_stream(client)
        child.send_signal(signal.SIGTERM)
        began = time.monotonic()
        await answers(client, "/ready", 503, seconds=1)
        # Clients that do not know of the drain yet are served as before: requests, open connections, streams.
        late, late_stream = await _open_stream(client)
        accepted = await client.post("/api/v1/signals", SIGNAL)
        assert accepted.status == 201
        assert "Connection" not in accepted.headers
        assert time.monotonic() - began < DELAY_SECONDS, "too slow a machine to tell"
        for reader in (stream, late_stream):
            told = await asyncio.wait_for(_read_until(reader, b"SERVER_DRAINING"), DELAY_SECONDS + DRAIN_SECONDS)
            assert time.monotonic() - began >= DELAY_SECONDS
            assert b"event: error" in told
        late.close()
        writer.close()
        assert await ended(child, seconds=DELAY_SECONDS + DRAIN_SECONDS + 3) == 0
        assert time.monotonic() - began < DELAY_SECONDS + DRAIN_SECONDS + 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_gateway_without_its_services_lives_is_red_and_ends_when_told(
    settings: Settings, number: signal.Signals
) -> None:
    nowhere = {"database_url": "postgresql://postgres@127.0.0.1:1/x", "redis_url": "redis://127.0.0.1:1"}
    with process(settings, {"PATH": "/usr/bin:/bin"}, ray_address="127.0.0.1:1", **nowhere) as (client, child):
        await answers(client, "/health", 200)
        assert (await client.get("/ready")).status == 503
        (await client.post("/api/v1/signals", SIGNAL)).problem(503, "SERVICE_UNAVAILABLE")
        child.send_signal(number)
        assert await ended(child, seconds=DRAIN_SECONDS + 3) == 0


@pytest.mark.skipif(len(listening_hosts("127.0.0.1")) < 2, reason="this machine has no IPv6")
async def test_localhost_is_served_by_either_protocol(settings: Settings) -> None:
    """Some clients try only the first address of `localhost`, the name under which the server is printed."""
    nowhere = {"database_url": "postgresql://postgres@127.0.0.1:1/x", "redis_url": "redis://127.0.0.1:1"}
    with process(settings, {"PATH": "/usr/bin:/bin"}, ray_address="127.0.0.1:1", **nowhere) as (client, child):
        await answers(client, "/health", 200)
        for host in ("127.0.0.1", "::1"):
            reader, writer = await asyncio.open_connection(host, client.port)
            writer.write(f"GET /metrics HTTP/1.1\r\nHost: localhost:{client.port}\r\n\r\n".encode())
            assert b" 200 " in await asyncio.wait_for(reader.readline(), 5)
            writer.close()
        child.send_signal(signal.SIGTERM)
        assert await ended(child, seconds=DRAIN_SECONDS + 3) == 0


async def test_the_last_requests_of_a_gateway_are_counted(settings: Settings, tmp_path: Path) -> None:
    nowhere = {"database_url": "postgresql://postgres@127.0.0.1:1/x", "redis_url": "redis://127.0.0.1:1"}
    environment = {"PATH": "/usr/bin:/bin", "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    with process(settings, environment, ray_address="127.0.0.1:1", **nowhere) as (client, child):
        await answers(client, "/health", 200)
        child.send_signal(signal.SIGTERM)
        answered = 0
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                assert (await client.get("/nowhere")).status == 404
                answered += 1
        assert await ended(child, seconds=DRAIN_SECONDS + 3) == 0
    labels = 'method="other",route="unmatched",status="404"'
    assert f"tradestream_http_requests_total{{{labels}}} {answered}.0\n" in _collected(tmp_path)


def test_a_gateway_names_all_that_it_cannot_start_without(tmp_path: Path) -> None:
    child = subprocess.run(
        [sys.executable, "-m", "server.main"], env={"DATA_DIR": str(tmp_path)}, capture_output=True, check=False
    )
    assert child.returncode == 2
    for name in (b"DATABASE_URL", b"REDIS_URL", b"RAY_ADDRESS"):
        assert name in child.stderr


def test_a_gateway_refuses_a_limit_for_a_route_that_is_not_there(tmp_path: Path) -> None:
    nowhere = Settings.load(None).replace(
        data_dir=tmp_path,
        database_url="postgresql://localhost/nothing",
        redis_url="redis://localhost",
        ray_address="localhost:1",
        rate_limits=(("GET /nowhere", 1),),
    )
    child = subprocess.run(
        [sys.executable, "-m", "server.main"], env=nowhere.to_environment(), capture_output=True, check=False
    )
    assert (child.returncode, child.stderr) == (2, b"RATE_LIMITS: there is no route 'GET /nowhere'\n")


def _collected(folder: Path) -> str:
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(folder))
    return generate_latest(registry).decode()


async def _open_stream(client: Client) -> tuple[asyncio.StreamWriter, asyncio.StreamReader]:
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write(b"GET /api/signals/stream HTTP/1.1\r\nHost: x\r\n\r\n")
    await asyncio.wait_for(_read_until(reader, b"session_start"), 5)
    return writer, reader


async def _read_until(reader: asyncio.StreamReader, mark: bytes) -> bytes:
    data = b""
    while mark not in data:
        chunk = await reader.read(4096)
        assert chunk, data
        data += chunk
    return data
