"""The base of every handler: admission in `prepare`, one way to answer, one way to fail."""

from __future__ import annotations

import asyncio
import functools
import logging
import random
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from operator import attrgetter
from types import TracebackType
from typing import Concatenate, ParamSpec, TypeVar
from uuid import UUID

import tornado.web
from marshmallow import ValidationError
from tornado.httputil import format_timestamp
from tornado.iostream import IOStream, StreamClosedError
from tornado.web import OutputTransform

from actors._runtime.messages import Message
from config.ids import parse_uuid
from config.log import request_id as current_request_id
from config.tasks import spawn
from db._postgres import Connection, connection, loudness
from handlers._http.access import Caller, check_policy
from handlers._http.body import BODY_BYTES, LINGER_BYTES, check_body_headers, declared_bytes, has_body
from handlers._http.counting import CountedHandler
from handlers._http.endpoint import Endpoint, endpoint_of
from handlers._http.errors import error_body, error_headers, to_app_error
from handlers._http.headers import Headers
from handlers._http.json import encode
from handlers._http.routes import Match, Route
from handlers._http.security import HSTS, SECURITY_HEADERS, cors_headers, preflight_headers
from handlers._http.services import GatewayState, Services
from schemas.errors import (
    AppError,
    MethodNotAllowed,
    NotFound,
    PayloadTooLarge,
    Unavailable,
)

log = logging.getLogger(__name__)

P = ParamSpec("P")
Reply = TypeVar("Reply")
Row = TypeVar("Row")

_REQUEST_ID = re.compile(r"[!-~]{1,128}")


# Maps request methods to handler methods. `prepare` refuses any method that is missing here, on every path.
_CALLS: Mapping[str, Callable[[GatewayHandler], Callable[..., Awaitable[None] | None]]] = {
    "DELETE": attrgetter("delete"),
    "GET": attrgetter("get"),
    "HEAD": attrgetter("head"),
    "OPTIONS": attrgetter("options"),
    "PATCH": attrgetter("patch"),
    "POST": attrgetter("post"),
    "PUT": attrgetter("put"),
}


@tornado.web.stream_request_body  # so that a refusal is sent before the body has filled the memory
class GatewayHandler(CountedHandler):
    """The base of every handler; on its own it answers unknown paths and methods, and preflights."""

    while_starting = False  # whether it works without the services
    is_socket = False  # whether it is upgraded to a WebSocket, which no CORS guards

    caller: Caller
    _headers: Headers
    _refusal: AppError | None = None
    _answered_early = False
    _in_flight = False

    def initialize(self, match: Match, gateway: GatewayState) -> None:
        """Set up the handler (Tornado's constructor)."""
        self.match = match
        self.gateway = gateway
        given = self.request.headers.get("X-Request-ID")
        self.request_id = given if given and _REQUEST_ID.fullmatch(given) else f"{random.getrandbits(64):016x}"
        self._chunks = bytearray()
        self._received_bytes = 0
        self._send_default_headers()

    def _execute(self, transforms: list[OutputTransform], *args: bytes, **kwargs: bytes) -> asyncio.Task[None]:  # type: ignore[override]
        # Tornado would wrap a coroutine in a task too, which takes half as much time again.
        return spawn(self._serve(transforms, kwargs), name="request")

    async def _serve(self, transforms: list[OutputTransform], arguments: dict[str, bytes]) -> None:
        # Like Tornado's own, which would call whatever attribute is named like the request's method.
        self._transforms = transforms
        prepared: asyncio.Future[None] = self._prepared_future  # type: ignore[assignment]  # set for streamed bodies
        try:
            self.path_kwargs = {name: self.decode_argument(value, name) for name, value in arguments.items()}
            self._cross_origin_protection()
            await self.prepare()
            if not prepared.done():
                prepared.set_result(None)
            if not self._finished and await self._has_body():
                await self._call()
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or not task.cancelling():
                self._fail(error)  # what the handler waited for was cancelled, not the handler
                return
            if not self._finished:
                self.send_error(500)
            raise
        except Exception as error:  # noqa: BLE001 - it is rendered, and logged unless it is ours
            self._fail(error)
        finally:
            if not prepared.done():
                prepared.set_result(None)  # the connection waits for this future
            self._leave()  # in every case: a drain waits for nothing else

    async def _has_body(self) -> bool:
        # Waits for the whole body; returns false if the client disconnects first.
        try:
            await self.request._body_future  # noqa: SLF001 - Tornado's own way to say so
        except StreamClosedError:
            return False
        return True

    async def _call(self) -> None:
        if self._refusal is not None:
            self._end_refusal(self._refusal)
            return
        called = _CALLS[self.request.method or ""](self)(**self.path_kwargs)
        if called is not None:
            await called
        if self._auto_finish and not self._finished:
            self.finish()

    def _fail(self, error: BaseException) -> None:
        try:
            self._handle_request_exception(error)
        except Exception:
            log.exception("%s %s failed to fail", self.request.method, self.match.pattern)

    def clear(self) -> None:
        """Reset the response. Tornado's own method formats the time anew for each response."""
        self._headers = Headers()
        self._headers["Date"] = _date(int(time.time()))
        self.set_default_headers()
        self._write_buffer = []
        self._status_code, self._reason = 200, "OK"

    def set_default_headers(self) -> None:
        """Set the headers of every response; called again when an error replaces a response."""
        if hasattr(self, "request_id"):  # the first call comes before initialize
            self._send_default_headers()

    def _send_default_headers(self) -> None:
        headers, settings = self._headers, self.gateway.settings
        headers.put(SECURITY_HEADERS)
        headers["X-Request-ID"] = self.request_id
        if not self.match.access.internal:
            headers.put(cors_headers(self.request.headers.get("Origin"), settings.cors_origins))
        if settings.is_production:
            headers.put((HSTS,))
        if self.gateway.lifecycle.state == "draining":
            headers["Connection"] = "close"
        if self._verdict is not None:
            self.announce(self._verdict)

    @property
    def services(self) -> Services:
        """The services behind this process. Raises Unavailable while it starts."""
        if self.gateway.services is None:
            raise Unavailable("The server is starting")
        return self.gateway.services

    async def load(
        self, query: Callable[Concatenate[Connection, P], Awaitable[Row]], *arguments: P.args, **named: P.kwargs
    ) -> Row:
        """Run one query on a connection of the pool. Raises DatabaseUnavailable."""
        async with connection(self.services.pool) as conn:
            return await query(conn, *arguments, **named)

    async def find(self, what: str, text: str, query: Callable[[Connection, UUID], Awaitable[Row | None]]) -> Row:
        """Return what the query finds for an id in the path. Raises NotFound (`"Event not found"`)."""
        found = await self.load(query, known_id(text, what))
        if found is None:
            raise NotFound(f"{what} not found")
        return found

    async def ask(self, kind: str, key: str, message: Message[Reply]) -> Reply:
        """Ask the owner of `key`; raises its errors, and Unavailable."""
        return await self.services.actors.ref(kind, key).ask(key, message)

    @property
    def received(self) -> bytes:
        """The request's body."""
        return bytes(self._chunks)

    async def prepare(self) -> None:
        """Admit the request or refuse it; a request with a body is refused after the body (see LINGER_BYTES)."""
        current_request_id.set(self.request_id)
        self.gateway.lifecycle.enter()
        self._in_flight = True
        try:
            await self._admit()
            if has_body(self.request.headers):
                self._check_body()
        except AppError as refusal:
            if not has_body(self.request.headers):
                raise
            self._refuse(refusal)

    async def _admit(self) -> None:
        # Network and method are checked first: they are refused from memory, and a limit belongs to a route. So unknown
        # paths and methods are not counted, as with most gateways: serving them costs no more than counting them.
        gateway, match, headers = self.gateway, self.match, self.request.headers
        # Several X-Forwarded-For headers are one list (RFC 9110 § 5.3), and Tornado joins them so.
        self.caller = gateway.gatekeeper.locate(self.request.remote_ip or "", headers.get("X-Forwarded-For"))
        if self.caller.is_relayed and self.caller.is_internal:
            gateway.border.warn(self.caller)
        if match.access.internal:
            method, host = self.request.method or "", self.request.host
            gateway.border.check(self.caller, method, host, headers, is_socket=self.is_socket)
        elif self.is_socket:
            gateway.border.check_host(self.request.host)
        route = match.route
        if route is None:
            if not match.methods:
                raise NotFound
            if self.request.method == "OPTIONS":
                return
            raise MethodNotAllowed(headers={"Allow": match.methods})
        if gateway.lifecycle.state == "starting" and not self.while_starting:
            raise Unavailable("The server is starting")
        # The limit is checked before a bad token is refused, so that guessing tokens is limited too; but the token is
        # read first, without raising, because the user is counted in the same round trip.
        refusal: AppError | None = None
        try:
            await self._authorise(route)
        except AppError as error:
            refusal = error
        if refusal is not None or self.is_counted():
            await self.count(route, None if refusal is not None else self.caller.subject)
        if refusal is not None:
            raise refusal
        if self.caller.subject is not None:
            gateway.activity_recorder.note(self.caller.subject)

    async def _authorise(self, route: Route) -> None:
        if route.access.identity != "ignored":
            headers, query = self.request.headers, self.request.query_arguments.get("access_token")
            token = query[-1].decode("utf-8", "replace") if query else None
            identify = self.gateway.gatekeeper.identify
            self.caller = await identify(self.caller, route.access, headers.get("Authorization"), token)
            check_policy(self.caller, route.access)
        self.check_request()

    def check_request(self) -> None:
        """Hook, called once the caller is known: raise for a request that this handler refuses for every method."""

    def _check_body(self) -> None:
        declared = self.declared
        if declared is not None and declared.body is not None:
            check_body_headers(self.request.headers)
        elif (declared_bytes(self.request.headers) or 0) > BODY_BYTES:
            raise PayloadTooLarge

    @property
    def declared(self) -> Endpoint | None:
        """The endpoint declaration of the requested method."""
        call = _CALLS.get("GET" if self.request.method == "HEAD" else self.request.method or "")
        return None if call is None else endpoint_of(call(self))

    def _refuse(self, refusal: AppError) -> None:
        self._refusal = refusal
        self._chunks.clear()
        declared = declared_bytes(self.request.headers)
        if declared is None or declared > BODY_BYTES:
            self._answered_early = True
            body = self._render(refusal)
            self.set_header("Connection", "close")
            self.set_header("Content-Length", str(len(body)))
            self.write(body)
            self.flush()

    def _end_refusal(self, refusal: AppError) -> None:
        if not self._answered_early:
            raise refusal
        self.finish()

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        """Keep the body, up to its limit; past it, refuse, and read on only so that the client can read the refusal."""
        self._received_bytes += len(chunk)
        if self._refusal is None and self._received_bytes > BODY_BYTES:
            self._refuse(PayloadTooLarge())
        elif self._refusal is None:
            self._chunks += chunk
        elif self._received_bytes > LINGER_BYTES and not self._finished:
            self.finish()  # the answer has been sent; now the connection is closed
        return None

    def head(self, **arguments: str) -> Awaitable[None] | None:
        """Answer as GET does; Tornado leaves the body out."""
        return self.get(**arguments)

    async def options(self, **_: str) -> None:
        """Answer a preflight."""
        self.set_header("Allow", self.match.methods)
        if "Access-Control-Allow-Origin" in self._headers:
            asked = self.request.headers.get("Access-Control-Request-Headers")
            for name, value in preflight_headers(self.match.methods, asked):
                self.set_header(name, value)
        self.clear_header("Content-Type")
        self.set_status(204)

    def answer(self, document: object, declared: Endpoint) -> None:
        """Send the document as JSON; bytes are JSON already."""
        if declared.conditional:
            self.conditional = True
            self.set_header("Cache-Control", "no-cache")
        if declared.status != 200:
            self.set_status(declared.status)
        self.finish(document if isinstance(document, bytes) else encode(document))

    def write_error(self, status_code: int, **kwargs: object) -> None:
        """Send the error response for what a handler raised: the only way to fail, called by Tornado."""
        raised = kwargs.get("exc_info")
        error = raised[1] if isinstance(raised, tuple) else RuntimeError(status_code)
        self.finish(self._render(to_app_error(error)))

    def _render(self, error: AppError) -> bytes:
        self.set_status(error.status)
        for name, value in error_headers(error).items():
            self.set_header(name, value)
        return encode(error_body(error, self.request_id))

    def log_exception(
        self, typ: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Log a traceback for an unforeseen error, a line for an `Unavailable`, nothing for a client's error."""
        if isinstance(value, AppError) and value.status < 500:
            return
        if isinstance(value, (ValidationError, tornado.web.HTTPError, StreamClosedError)):
            return
        if isinstance(value, Unavailable):
            log.log(loudness(value), "%s %s: %s", self.request.method, self.match.pattern, value.message)
            return
        log.error("%s %s failed", self.request.method, self.match.pattern, exc_info=(typ, value, tb))  # type: ignore[arg-type]

    def on_connection_close(self) -> None:
        """Handle a client's disconnect; WebSocketHandler's own method does not end the wait for the body."""
        if not self.request._body_future.done():  # noqa: SLF001 - Tornado then ends without a word to us
            self._leave()
        tornado.web.RequestHandler.on_connection_close(self)
        super().on_connection_close()

    def detach(self) -> IOStream:
        """Take the connection out of HTTP, for a stream: the HTTP request ends here."""
        if not self._finished:
            self._log()
            self.on_finish()
        return super().detach()

    def on_finish(self) -> None:
        """Finish the request: Tornado's hook at its end."""
        self._leave()

    def _leave(self) -> None:
        if self._in_flight:
            self._in_flight = False
            self.gateway.lifecycle.leave()


@functools.lru_cache(maxsize=1)
def _date(second: int) -> str:
    return format_timestamp(second)


def known_id(text: str, what: str) -> UUID:
    """Return the id in a path. Raises NotFound (`"Event not found"`) for one that cannot exist."""
    found = parse_uuid(text)
    if found is None:
        raise NotFound(f"{what} not found")
    return found
