"""Find out whether a session is held: try the connections of this process, ask other gateways over Redis.

A session is taken over from a connection that is dead, or that does not take what it is sent: its client has come back
before the loss was noticed. A living one belongs to another reader with the same last id, which keeps it. A proxy
acknowledges for clients that have vanished; there an EventSource that reconnects, which says so by its header and has
received the connection's first event, is assumed to be the same client.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass

import orjson

from config.tasks import spawn
from db._redis import RedisClient, RedisUnavailable
from handlers.streams.client import ClientState, StreamClient

log = logging.getLogger(__name__)

POLL_SECONDS = 0.01
ALIVE_SECONDS = 1.0  # time in which the peer of a living connection acknowledges something
# A client that hangs up and reconnects at once may be here before its close is, above all by way of a proxy.
WATCH_SECONDS, WATCH_PROXIED_SECONDS = 0.1, 0.5
TAKING_SECONDS = 2.0  # for a take-over that is under way to finish
ASK_SECONDS = 3.0  # the time another gateway may need for all that; one that does not answer is dead, or hangs
MOST_ANSWERS = 1000  # questions under way at once; a request beyond that asks none, and takes over


@dataclass(frozen=True, slots=True)
class Claimant:
    """A client that wants a session: after which event, and whether it says that its own connection is over."""

    session: bytes
    n: int
    is_reconnect: bool

    def is_holder(self, client: StreamClient) -> bool:
        """Return whether the claimant is the client whose connection this was."""
        return self.is_reconnect and client.viewer.is_proxied and self.n >= client.first


class Holders:
    """Knows which sessions are held, and answers other gateways. `gateway` is this one's name in records."""

    def __init__(
        self, redis: RedisClient, *, find: Callable[[bytes], StreamClient | None], drop: Callable[[StreamClient], None]
    ) -> None:
        self.gateway = secrets.token_hex(8)
        self.channel = _channel(self.gateway)
        self._redis = redis
        self._find = find
        self._drop = drop
        self._taking: set[bytes] = set()
        self._asked: dict[str, asyncio.Future[bool]] = {}
        self._answering = 0

    def claim(self, session: bytes) -> bool:
        """Begin to take a session over, until `release`; False if another take-over of it is under way."""
        if session in self._taking:
            return False
        self._taking.add(session)
        return True

    def release(self, session: bytes) -> None:
        """End the take-over, successful or not; harmless where there was none."""
        self._taking.discard(session)

    async def is_held(self, claimant: Claimant, holder: str) -> bool:
        """Return whether another living connection has the session; `holder` is the gateway that recorded it last."""
        if await self.is_held_here(claimant):
            return True
        return bool(holder) and holder != self.gateway and await self._ask(claimant, holder)

    async def is_held_here(self, claimant: Claimant) -> bool:
        """Return whether a connection of this process has it. A dead one, or the claimant's own, is closed."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + TAKING_SECONDS
        while claimant.session in self._taking:
            if loop.time() > give_up_at:
                return True
            await asyncio.sleep(POLL_SECONDS)
        client = self._find(claimant.session)
        if client is None:
            return False
        if not claimant.is_holder(client) and await is_alive(client):
            return True
        self._drop(client)
        return False

    def receive(self, data: bytes) -> None:
        """Receive a question or an answer of another gateway."""
        try:
            number, asker, *what = orjson.loads(data)
            if asker is None:
                future = self._asked.get(number)
                if future is not None and not future.done():
                    future.set_result(what == [True])
            elif self._answering < MOST_ANSWERS:
                session, n, is_reconnect = what
                claimant = Claimant(session.encode(), int(n), bool(is_reconnect))
                self._answering += 1
                spawn(self._answer(number, asker, claimant), name="who holds a session")
        except (ValueError, TypeError, AttributeError):
            log.exception("a message of another gateway cannot be read")

    async def _answer(self, number: str, asker: str, claimant: Claimant) -> None:
        try:
            await self._tell(asker, [number, None, await self.is_held_here(claimant)])
        finally:
            self._answering -= 1

    async def _ask(self, claimant: Claimant, holder: str) -> bool:
        number = secrets.token_hex(8)
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._asked[number] = future
        try:
            question = [number, self.gateway, claimant.session.decode(), claimant.n, claimant.is_reconnect]
            if not await self._tell(holder, question):
                return False  # no subscriber: the gateway has ended
            async with asyncio.timeout(ASK_SECONDS):
                return await future
        except TimeoutError:
            return False
        finally:
            del self._asked[number]

    async def _tell(self, gateway: str, message: list[object]) -> int:
        # How many subscribers received it.
        try:
            async with self._redis.answering():
                return int(await self._redis.publish(_channel(gateway), orjson.dumps(message)))
        except RedisUnavailable:
            return 0


async def is_alive(client: StreamClient) -> bool:
    """Return whether a connection's other end takes what it is sent: a few bytes, which it has to acknowledge."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    watch_until = began + (WATCH_PROXIED_SECONDS if client.viewer.is_proxied else WATCH_SECONDS)
    client.probe()
    last, has_answered = client.unacknowledged(), False
    while loop.time() < began + ALIVE_SECONDS:
        await asyncio.sleep(POLL_SECONDS)
        left = client.unacknowledged()
        if left is None or last is None or client.state in {ClientState.ENDING, ClientState.CLOSED}:
            return False
        # While signals are sent some bytes may always be under way; but acknowledging reduces their number.
        has_answered = has_answered or left == 0 or left < last
        last = left
        if has_answered and loop.time() >= watch_until:
            return True
    return False


def _channel(gateway: str) -> str:
    return f"tradestream:gateway:{gateway}"
