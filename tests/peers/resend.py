"""Resend's HTTP API as its reference describes it: `POST /emails`, idempotency keys for 24 hours, its errors."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import tornado.web
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets


class Resend:
    """The e-mails that it was asked to send. `answers`, (status, headers), are given in order before good ones."""

    def __init__(self) -> None:
        self.url = ""
        self.requests = 0
        self.sent: dict[str, Any] = {}  # by idempotency key
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.lose_answers = 0  # so many e-mails are sent, but the connection is closed without an answer


class Emails(tornado.web.RequestHandler):
    """The endpoint `/emails`."""

    def initialize(self, resend: Resend) -> None:
        self.resend = resend

    def post(self) -> None:
        resend = self.resend
        resend.requests += 1
        if self.request.headers.get("Authorization") != "Bearer re_key":
            self._refuse(401, "missing_api_key")
            return
        if resend.answers:
            status, headers = resend.answers.pop(0)
            for name, value in headers.items():
                self.set_header(name, value)
            self._refuse(status, "as_told")
            return
        email = orjson.loads(self.request.body)
        if not {"from", "to", "subject"} <= set(email) or not isinstance(email["to"], list):
            self._refuse(422, "missing_required_field")
            return
        key = self.request.headers["Idempotency-Key"]
        if resend.sent.setdefault(key, email) != email:
            self._refuse(409, "invalid_idempotent_request")
            return
        if resend.lose_answers:
            resend.lose_answers -= 1
            self.request.connection.stream.close()  # type: ignore[union-attr]
            return
        self.finish({"id": key})

    def _refuse(self, status: int, name: str) -> None:
        self.set_status(status)
        self.finish({"statusCode": status, "name": name, "message": "no"})


@asynccontextmanager
async def resend_api() -> AsyncIterator[Resend]:
    """Run Resend's API on a free port of the loopback interface."""
    resend = Resend()
    server = HTTPServer(tornado.web.Application([("/emails", Emails, {"resend": resend})]))
    sockets = bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    resend.url = f"http://127.0.0.1:{sockets[0].getsockname()[1]}"
    try:
        yield resend
    finally:
        server.stop()
        await server.close_all_connections()
