"""The public signals: the live feed."""

from __future__ import annotations

from typing import Any

from tornado.iostream import StreamClosedError

from handlers._base import GatewayHandler
from handlers._endpoint import endpoint
from handlers._socket import SocketHandler
from handlers._stream import EVENT_STREAM_HEADERS, RECONNECT, Feed, response_head, take_socket, viewer_of
from schemas.stream import SignalFilter, StreamQuery

_RESUME = {"Last-Event-ID": "The id of the last event received: the stream goes on after it."}


class SignalStream(GatewayHandler):
    """`/api/signals/stream`"""

    _is_gone = False

    @endpoint(
        "Stream signals as server-sent events",
        query=StreamQuery(),
        errors=(503,),
        headers=_RESUME,
        media_type="text/event-stream",
    )
    async def get(self, query: dict[str, Any]) -> None:
        """Answered by the feed, which takes the connection over and writes the head itself."""
        for name, value in EVENT_STREAM_HEADERS:
            self.set_header(name, value)
        if self.request.method == "HEAD":
            await self.flush()  # before finish(), which would announce an empty body
            self.finish()
            return
        # The end of the connection is the end of the body: no bytes are spent on chunks, and HTTP/1.0 is served too.
        self.set_header("Connection", "close")
        feed: Feed = self.services.feed
        last_event_id = self.request.headers.get("Last-Event-ID") or query.get("last_event_id")
        opening = await feed.admit(viewer_of(self.caller), SignalFilter.of(query), last_event_id)
        head = response_head(self._headers) + RECONNECT
        try:
            if self._is_gone:
                raise StreamClosedError
            connection = take_socket(self.detach())
        except OSError:
            feed.abandon(opening)
            raise
        feed.open_stream(opening, connection, head)

    def on_connection_close(self) -> None:
        """The client has gone while its session was looked up."""
        self._is_gone = True
        super().on_connection_close()


class SignalSocket(SocketHandler):
    """`/api/signals/ws`"""

    @endpoint(
        "Stream signals as WebSocket messages", query=StreamQuery(), status=101, errors=(400, 503), headers=_RESUME
    )
    async def get(self, query: dict[str, Any]) -> None:  # type: ignore[override]  # an endpoint may be any awaitable
        """The handshake, once the feed has admitted the stream."""
        self.check_handshake()
        feed: Feed = self.services.feed
        last_event_id = query.get("last_event_id") or self.request.headers.get("Last-Event-ID")
        self._opening = await feed.admit(viewer_of(self.caller), SignalFilter.of(query), last_event_id)
        try:
            await self.shake_hands()
        finally:
            if self._opening is not None:
                feed.abandon(self._opening)

    def open(self) -> None:
        """Tornado's hook after the handshake."""
        self.prepare_connection()
        opening, self._opening = self._opening, None
        self.services.feed.open_socket(opening, self)

    def on_message(self, message: str | bytes) -> None:
        """The feed goes one way: what a client says is not listened to."""
