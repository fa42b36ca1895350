"""The base of the WebSocket handlers: admitted like any request, refused in the errors' one shape."""

from __future__ import annotations

from handlers._http.base import GatewayHandler
from handlers.streams.connections import PushedSocket
from schemas.errors import Forbidden, ValidationFailed


class SocketHandler(GatewayHandler, PushedSocket):
    """A route that is upgraded. `get` checks and then shakes hands.

    In this order of bases: of the one hook that both have, `on_connection_close`, ours calls Tornado's.
    """

    is_socket = True

    def check_handshake(self) -> None:
        """Raise for a request that is not a handshake of RFC 6455, version 13."""
        headers = self.request.headers
        connection = [token.strip().lower() for token in headers.get("Connection", "").split(",")]
        if headers.get("Upgrade", "").lower() != "websocket" or "upgrade" not in connection:
            raise ValidationFailed("This is a WebSocket: the request must ask for the upgrade")
        if headers.get("Sec-WebSocket-Version") != "13" or not headers.get("Sec-WebSocket-Key"):
            raise ValidationFailed("Only WebSocket version 13 is spoken here", headers={"Sec-WebSocket-Version": "13"})

    async def shake_hands(self) -> None:
        """Upgrade, and serve the connection until its end. Raises Forbidden for a page of a foreign origin."""
        await PushedSocket.get(self)

    def check_origin(self, origin: str) -> bool:
        """Tornado's hook for pages of another origin: CORS does not cover WebSockets, this has to.

        The border has refused them before where the route is internal.
        """
        if not super().check_origin(origin):
            raise Forbidden("This origin may not connect")
        return True
