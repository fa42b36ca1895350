"""GitHub's OAuth endpoints and the two calls of its API that we make, as its reference describes them."""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, urlencode

import orjson
import tornado.web
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

CLIENT_ID, CLIENT_SECRET = "Iv1.tests", "github secret"


class GitHub:
    """A GitHub with one user, who consents to everything."""

    def __init__(self) -> None:
        self.url = ""
        self.user: dict[str, Any] = {
            "id": 583231,
            "login": "octocat",
            "name": None,
            "avatar_url": "https://avatars.example.com/u/583231",
        }
        self.emails: Any = [
            {"email": "other@example.com", "primary": False, "verified": True},
            {"email": "octocat@example.com", "primary": True, "verified": True},
        ]
        self.codes: dict[str, dict[str, str]] = {}
        self.tokens: set[str] = set()
        self.fails: dict[str, int] = {}  # by path: the status to answer with


class _Handler(tornado.web.RequestHandler):
    def initialize(self, github: GitHub) -> None:
        self.github = github

    def prepare(self) -> None:
        if self.request.path in self.github.fails:
            self.set_status(self.github.fails[self.request.path])
            self.finish({"message": "as told"})

    def check_token(self) -> bool:
        scheme, _, token = self.request.headers.get("Authorization", "").partition(" ")
        if scheme == "Bearer" and token in self.github.tokens and "User-Agent" in self.request.headers:
            return True
        self.set_status(401)
        self.finish({"message": "Bad credentials"})
        return False


class _Authorize(_Handler):
    def get(self) -> None:
        given = {name: self.get_argument(name) for name in self.request.query_arguments}
        assert given["client_id"] == CLIENT_ID
        assert given["code_challenge_method"] == "S256"
        assert set(given["scope"].split()) == {"read:user", "user:email"}
        code = secrets.token_hex(10)
        self.github.codes[code] = given
        self.set_status(302)
        self.set_header("Location", f"{given['redirect_uri']}?{urlencode({'code': code, 'state': given['state']})}")


class _Token(_Handler):
    def post(self) -> None:
        form = {name: values[0] for name, values in parse_qs(self.request.body.decode()).items()}
        asked = self.github.codes.pop(form.get("code", ""), None)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        good = (
            asked is not None
            and form.get("client_secret") == CLIENT_SECRET
            and form.get("redirect_uri") == asked["redirect_uri"]
            and challenge.rstrip(b"=").decode() == asked["code_challenge"]
        )
        if not good:
            self.finish({"error": "bad_verification_code", "error_description": "The code is incorrect or expired."})
            return
        token = "gho_" + secrets.token_hex(18)
        self.github.tokens.add(token)
        if self.request.headers.get("Accept") == "application/json":
            self.finish({"access_token": token, "token_type": "bearer", "scope": "read:user,user:email"})
        else:
            self.finish(urlencode({"access_token": token}))


class _User(_Handler):
    def get(self) -> None:
        if self.check_token():
            self.finish(self.github.user)


class _Emails(_Handler):
    def get(self) -> None:
        if self.check_token():
            self.set_header("Content-Type", "application/json")
            self.finish(orjson.dumps(self.github.emails))


@asynccontextmanager
async def github_api() -> AsyncIterator[GitHub]:
    """Run GitHub's API on a free port of the loopback interface."""
    github = GitHub()
    rows = [
        ("/login/oauth/authorize", _Authorize),
        ("/login/oauth/access_token", _Token),
        ("/user", _User),
        ("/user/emails", _Emails),
    ]
    server = HTTPServer(tornado.web.Application([(path, handler, {"github": github}) for path, handler in rows]))
    sockets = bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    github.url = f"http://127.0.0.1:{sockets[0].getsockname()[1]}"
    try:
        yield github
    finally:
        server.stop()
        await server.close_all_connections()
