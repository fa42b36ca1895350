"""The base of the WebSocket handlers: admitted like any request, refused with the same errors as any request."""

from __future__ import annotations

from handlers._http.base import GatewayHandler
from handlers.streams.connections import PushedSocket
from schemas.errors import Forbidden, ValidationFailed


class SocketHandler(GatewayHandler, PushedSocket):
    """A handler of a route that is upgraded. `get` checks and then shakes hands.

    The order of bases matters: of the one hook that both have, `on_connection_close`, ours calls Tornado's.
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
        """Accept or refuse a page of another origin (Tornado's hook): CORS does not cover WebSockets, so this has to.

        On internal routes the border check has refused them before.
        """
        if not super().check_origin(origin):
            raise Forbidden("This origin may not connect")
        return True
