"""Serve the Lens API's WebSocket: decisions as the models make them."""

from __future__ import annotations

import asyncio

import orjson
from tornado.ioloop import PeriodicCallback

from config.documents import Document
from handlers._http.endpoint import endpoint
from handlers.streams.decisions import DecisionHub
from handlers.streams.frames import text_frame
from handlers.streams.sockets import SocketHandler
from schemas.feed import FeedDecision
from schemas.stream import DecisionFilter, Ping, SocketProblem, Subscribe, Unsubscribe, parse_command

TOO_MANY = 4029
SILENT = 4408


class LensSocket(SocketHandler):
    """`/api/v1/ws/stream`"""

    ping_seconds = 30.0
    silence_seconds = 90.0

    _decisions: DecisionHub | None = None
    _filter: DecisionFilter | None = None
    _clock: PeriodicCallback | None = None

    @endpoint("Stream model decisions as WebSocket messages", status=101, errors=(400, 503))
    async def get(self) -> None:
        """The handshake. Before the client subscribes, only pings, pongs and errors are sent."""
        self.check_handshake()
        self._decisions = self.services.feed.decisions
        await self.shake_hands()

    def open(self) -> None:
        """Start the session: Tornado's hook after the handshake."""
        assert self._decisions is not None
        if not self._decisions.join(self, self._wants):
            self.close(TOO_MANY, "Too many connections")
            return
        self.prepare_connection()
        self._heard_at = self._pinged_at = self._now()
        # Finer than either interval, so that both end on time.
        self._clock = PeriodicCallback(self._check, min(self.ping_seconds, self.silence_seconds) * 1000 / 8)
        self._clock.start()

    def on_message(self, message: str | bytes) -> None:
        """Handle a text or binary message: Tornado's hook."""
        self._heard_at = self._now()
        try:
            command = parse_command(message)
        except SocketProblem as problem:
            self._say({"type": "error", "code": problem.code, "message": problem.message})
            return
        match command:
            case Subscribe(wanted, filters):
                self._filter = wanted
                self._say({"type": "subscribed", "filters": filters})
            case Unsubscribe():
                self._filter = None
                self._say({"type": "unsubscribed"})
            case Ping():
                self._say({"type": "pong"})

    def on_ping(self, data: bytes) -> None:
        """Note the protocol's own ping, which Tornado itself answers: Tornado's hook."""
        self._heard_at = self._now()

    def on_close(self) -> None:
        """End the session: Tornado's hook at the end of the connection."""
        if self._clock is not None:
            self._clock.stop()
        if self._decisions is not None:
            self._decisions.leave(self)
        super().on_close()

    def _wants(self, item: FeedDecision) -> bool:
        return self._filter is not None and self._filter.matches(item.model, item.symbol, item.event_type)

    def _check(self) -> None:
        moment = self._now()
        if moment - self._heard_at > self.silence_seconds:
            self.close(SILENT, "Nothing was heard for too long")
        elif moment - self._pinged_at >= self.ping_seconds:
            self._pinged_at = moment
            self._say({"type": "ping"})

    def _say(self, document: Document) -> None:
        try:
            self.push(text_frame(orjson.dumps(document)))
        except OSError:  # it is closing
            return
        # A client that does not read its answers is held to the bound of one that does not read decisions.
        if self.pushed_bytes() > self.gateway.settings.stream_buffer_bytes:
            self.abort()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
