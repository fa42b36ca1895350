"""The Tornado application: finds the handler in the route table, logs and measures each answer."""

from __future__ import annotations

import functools
import logging
import secrets
from collections.abc import Callable, Sequence
from typing import Any

import tornado.web
from tornado.httputil import HTTPMessageDelegate, HTTPServerRequest

from config.log import log_access
from config.metrics import HTTP_TURNED_AWAY, http_requests
from config.settings import Settings
from handlers._http.access import Gatekeeper
from handlers._http.base import GatewayHandler
from handlers._http.border import Border
from handlers._http.errors import error_body, error_headers
from handlers._http.json import encode
from handlers._http.routes import Route, RouteTable
from handlers._http.security import SECURITY_HEADERS
from handlers._http.services import GatewayState
from handlers.auth._revocations import RevokedSessions
from schemas.errors import AppError, PayloadTooLarge, Unavailable, ValidationFailed
from server._http1 import ConnectionLimits, HttpServer, LlhttpServer, TornadoServer
from server._metrics import collect_metrics
from server.openapi import build_document
from server.routes import effective_limits, routes_for

HEAD_SECONDS = 30.0  # for at most 16 KiB
UNREAD_SECONDS = 60.0  # without a byte of an answer being taken, as for streams
BODY_SECONDS = 15.0  # for at most 64 KiB that are kept, or a body that is read to be discarded
HEADER_BYTES = 16 << 10
DETACHED_BUFFERS = 4  # of STREAM_BUFFER_BYTES, past which a stream is told to reconnect: past four it is closed

_REFUSALS: dict[int, type[AppError]] = {ValidationFailed.status: ValidationFailed, Unavailable.status: Unavailable}
_QUIET = frozenset({"/health", "/ready", "/metrics", "/api/v1/health", "/api/v1/ready", "/api/v1/metrics"})


class Application(tornado.web.Application):
    """The Tornado application. `gateway.services` is set once the services have started."""

    def __init__(self, settings: Settings, routes: Sequence[Route] | None = None) -> None:
        routes = routes_for(settings) if routes is None else routes
        super().__init__(trusted_origins=settings.cors_origins, websocket_max_message_size=64 << 10)
        self.table = RouteTable(routes)
        revoked = RevokedSessions()
        self.gateway = GatewayState(
            settings=settings,
            gatekeeper=Gatekeeper(settings, revoked),
            border=Border(settings),
            revoked=revoked,
            limits=effective_limits(routes, settings),
            openapi=functools.cache(lambda: build_document(routes, settings)),
            collect_metrics=collect_metrics,
        )

    def find_handler(self, request: HTTPServerRequest, **kwargs: Any) -> Any:
        """Return the delegate of the request's route; without a route, that of the base handler, which refuses it."""
        match = self.table.find(request.method or "", request.path)
        handler = GatewayHandler if match.route is None else match.route.handler
        delegate: HTTPMessageDelegate = self.get_handler_delegate(
            request, handler, {"match": match, "gateway": self.gateway}, path_kwargs=match.arguments
        )
        return delegate

    def log_request(self, handler: tornado.web.RequestHandler) -> None:
        """Log and measure an answer or an opened stream, without its query, which may hold a token."""
        assert isinstance(handler, GatewayHandler)
        request, status = handler.request, handler.get_status()
        seconds = request.request_time()
        pattern = handler.match.pattern
        method = request.method if handler.match.route is not None else "other"
        http_requests.add(method or "", pattern, status, seconds)
        # Probes come every second: only a failing one is logged, and not during the start.
        is_quiet = pattern in _QUIET and (status < 500 or self.gateway.lifecycle.state == "starting")
        caller = getattr(handler, "caller", None)
        log_access(
            logging.DEBUG if is_quiet else logging.INFO,
            "%s %s %d %.1f ms %s",
            request.method,
            request.path,
            status,
            seconds * 1000,
            request.remote_ip if caller is None else caller.address,
            request_id=handler.request_id,
            route=pattern,
            status=status,
        )


def http_server(app: Application) -> HttpServer:
    """Make the application's HTTP server, with every bound that HTTP/1.1 needs."""
    settings = app.gateway.settings
    ours = functools.partial(
        LlhttpServer, head_seconds=HEAD_SECONDS, unread_seconds=UNREAD_SECONDS, unread_bytes=settings.unread_bytes
    )
    make: Callable[..., HttpServer] = TornadoServer if settings.http_server == "tornado" else ours
    return make(
        app,
        refusal=_refusal,
        idle_seconds=settings.idle_seconds,
        body_seconds=BODY_SECONDS,
        header_bytes=HEADER_BYTES,
        detached_bytes=DETACHED_BUFFERS * settings.stream_buffer_bytes,
        limits=ConnectionLimits(
            settings.max_connections, settings.max_connections_per_address, settings.trusted_proxies
        ),
        on_turned_away=lambda bound: HTTP_TURNED_AWAY.labels(bound).inc(),
    )


def _refusal(status: int, message: str, retry_after: int | None) -> tuple[list[tuple[str, str]], bytes]:
    request_id = secrets.token_hex(8)
    error = _REFUSALS.get(status, PayloadTooLarge)(message)
    error.retry_after = retry_after
    headers = [*SECURITY_HEADERS, ("X-Request-Id", request_id), *error_headers(error).items()]
    return headers, encode(error_body(error, request_id))
