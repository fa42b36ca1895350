"""Parse bytes into requests: llhttp, and what it leaves to its user (a head's size, upgrades, unknown methods)."""

from __future__ import annotations

import re
from typing import Protocol

import httptools
from tornado.httputil import HTTPHeaders, HTTPInputError, RequestStartLine

from handlers._http.headers import Headers

METHOD_BYTES = 32  # the longest of IANA's registry has 17

_METHOD = re.compile(rb"[!#$%%&'*+.^_`|~0-9A-Za-z-]{1,%d}" % METHOD_BYTES)  # or the first part of one
# Those of other protocols, which llhttp knows and refuses here, where the application would say what is wrong.
_FOREIGN = re.compile(
    rb"(?:ANNOUNCE|DESCRIBE|FLUSH|GET_PARAMETER|PAUSE|PLAY|RECORD|REDIRECT|SETUP|SET_PARAMETER|SOURCE|TEARDOWN) "
)
_ABSOLUTE = re.compile(rb"https?://([^/?#@\\]+)([/?][^#]*)?", re.IGNORECASE)
_HOST = re.compile(r"[\w.~%!$&'()*+;=:\[\]-]*", re.ASCII)
_VERSIONS = frozenset({"1.0", "1.1"})


class BadRequest(Exception):
    """The request is malformed HTTP. `status` and `message` are for the client, the argument is for the log."""

    status = 400
    message = "Malformed HTTP request"


class HeadTooLarge(BadRequest):
    """A head, or a body's trailers, of more than `header_bytes`."""

    status = 431
    message = "The request's head is too large"


class Incomplete(BadRequest):
    """The client has ended its side in the middle of a request."""

    message = "The request is incomplete"


class Receiver(Protocol):
    """The receiver of requests, part by part, in the order of their arrival."""

    def begin_request(
        self, start_line: RequestStartLine, headers: HTTPHeaders, *, keep_alive: bool, is_tunnel: bool
    ) -> None:
        """Receive a head. No HTTP follows that of a tunnel: all that follows is its body, which has no end."""

    def receive_body(self, chunk: bytes) -> None:
        """Receive a part of the request's body."""

    def end_request(self) -> None:
        """End the request: all of it has been received."""


class RequestParser:
    """Parse the requests of one connection, until it is closed."""

    def __init__(self, receiver: Receiver, header_bytes: int) -> None:
        self._receiver = receiver
        self._header_bytes = header_bytes
        self._parser = httptools.HttpRequestParser(self)
        self._is_tunnel = False
        self._in_message = False
        self._start = b""  # of a message: its method, as far as it has come
        self._begun = 0  # messages, in this piece
        self._is_moving = False  # llhttp has made a callback in this piece
        self._kept_bytes = 0  # received since the last callback
        # Of the last head.
        self._in_head = False
        self._method: str | None = None  # unless it is the one that llhttp has read
        self._url = b""
        self._head_bytes = 0
        self._headers = Headers()
        self._offer: RequestStartLine | None = None  # of another protocol

    @property
    def is_in_head(self) -> bool:
        """Whether a head has begun, and not ended."""
        return self._in_head or bool(self._start)

    def close(self) -> None:
        """Drop the references to parser and receiver, which refer to us: the cycle would wait for the collector."""
        del self._parser, self._receiver

    def feed(self, piece: bytes) -> None:
        """Parse bytes, and pass the requests on. Raises BadRequest, after the requests that are in order."""
        if self._is_tunnel:
            self._receiver.receive_body(piece)
            return
        is_new = not self._in_message
        if is_new:
            piece, self._start = self._start + piece, b""
            if len(piece) <= METHOD_BYTES and _METHOD.fullmatch(piece):
                self._start = piece  # llhttp would refuse a part of a method that it does not know
                return
        self._begun, self._is_moving = 0, False
        try:
            self._parse(piece, is_new=is_new)
        except httptools.HttpParserError as error:
            reason = error.__context__ or error  # the exception of one of our own methods
            raise reason if isinstance(reason, BadRequest) else BadRequest(str(reason)) from None
        # llhttp's binding keeps what it has of a field until it has all of it, in the trailers too.
        self._kept_bytes = 0 if self._is_moving else self._kept_bytes + len(piece)
        if self._kept_bytes > self._header_bytes and self._in_message:
            raise HeadTooLarge("it goes on and on")

    def _parse(self, data: bytes, *, is_new: bool) -> None:
        if is_new and _FOREIGN.match(data) is not None:
            end = data.index(b" ")
            data = self._begin_anew(data[:end].decode(), data[end:])
        while data:
            try:
                self._parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                rest = data[upgrade.args[0] :]
            except httptools.HttpParserInvalidMethodError:
                # The application refuses it, as any method that a path lacks. Only the first of a piece: where in
                # it the others begin, llhttp does not say.
                method = _METHOD.match(data)
                if method is None or not is_new or self._begun != 1:
                    raise
                data = self._begin_anew(method[0].decode(), data[method.end() :])
                continue
            data = self._go_on_after_offer(rest)

    def _begin_anew(self, method: str, rest: bytes) -> bytes:
        """Return the bytes to parse for a message with this method; llhttp refuses one that goes on in the rest."""
        self._parser = httptools.HttpRequestParser(self)
        self._method = method
        return b"PUT" + rest  # to llhttp, it is like any other method

    def _go_on_after_offer(self, rest: bytes) -> bytes:
        """Accept the offer of another protocol, or ignore it. Returns what is to be parsed instead of the rest."""
        offer, self._offer = self._offer, None
        assert offer is not None
        (method, target, version), headers = offer, self._headers
        is_socket = method == "GET" and version == "HTTP/1.1" and headers.get("Upgrade", "").lower() == "websocket"
        has_body = "Transfer-Encoding" in headers or headers.get("Content-Length", "0") != "0"
        if method != "CONNECT" and (has_body or not is_socket):
            # We do not speak it: as if nothing had been offered (RFC 9110 § 7.8).
            lines = [f"{n}: {v}\r\n" for n, v in headers.get_all() if n not in {"Upgrade", "Http2-Settings"}]
            return self._begin_anew(method, f" {target} {version}\r\n{''.join(lines)}\r\n".encode("latin-1") + rest)
        self._is_tunnel = True
        self._receiver.begin_request(offer, headers, keep_alive=False, is_tunnel=True)
        if rest:
            self._receiver.receive_body(rest)
        return b""

    # Called by llhttp.

    def on_message_begin(self) -> None:
        self._begun += 1
        self._in_message = self._in_head = self._is_moving = True
        self._head_bytes = 0
        self._url, self._headers = b"", Headers()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            return  # a trailer
        self._head_bytes += len(name) + len(value) + 4
        self._headers.add(name.decode("latin-1"), value.decode("latin-1").strip(" \t"))

    def on_headers_complete(self) -> None:
        if self._head_bytes + len(self._url) > self._header_bytes:
            raise HeadTooLarge("all of it has come")
        self._in_head, self._is_moving = False, True
        method, self._method = self._method or self._parser.get_method().decode("latin-1"), None
        version = self._parser.get_http_version()
        coding = self._headers.get("Transfer-Encoding")
        if version not in _VERSIONS or (coding is not None and (version != "1.1" or coding.lower() != "chunked")):
            raise HTTPInputError("a version or a transfer coding that we do not know")
        if self._url[:1] != b"/":
            self._url = self._target(method, version)
        start_line = RequestStartLine(method, self._url.decode("latin-1"), f"HTTP/{version}")
        if self._parser.should_upgrade():
            self._offer = start_line  # llhttp stops here, which shows where the head ends
        else:
            keep_alive = self._parser.should_keep_alive()
            self._receiver.begin_request(start_line, self._headers, keep_alive=keep_alive, is_tunnel=False)

    def _target(self, method: str, version: str) -> bytes:
        # Of a request in absolute-form, which a server must take (RFC 9112 § 3.2.2): the path, and what Host says is
        # replaced by what the target says. All servers read it so, and what looks at Host later must, too.
        if self._url == b"*" or method == "CONNECT":
            return self._url
        absolute = _ABSOLUTE.fullmatch(self._url)
        if absolute is None:
            raise BadRequest("a target in none of the four forms")
        given = self._headers.get("Host", "" if version == "1.0" else None)
        if given is not None and _HOST.fullmatch(given):  # Tornado refuses what is missing, wrong or there twice
            self._headers["Host"] = absolute[1].decode("latin-1")
        if absolute[2]:
            return absolute[2] if absolute[2][:1] == b"/" else b"/" + absolute[2]
        return b"*" if method == "OPTIONS" else b"/"

    def on_body(self, chunk: bytes) -> None:
        self._is_moving = True
        self._receiver.receive_body(chunk)

    def on_message_complete(self) -> None:
        self._in_message = False
        if self._offer is None:
            self._receiver.end_request()
