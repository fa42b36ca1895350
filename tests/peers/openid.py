"""A certified OpenID provider (the npm package `oidc-provider`) in a process of its own, and the person at its pages.

Node 20+ and npm are needed, and once the network: its 40 packages are installed beside pip's cache, by their lock file.
Without them the tests that need the provider are skipped, and say why.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

import pytest
from tornado.httpclient import AsyncHTTPClient, HTTPRequest, HTTPResponse

SOURCE = Path(__file__).with_name("oidc")
FILES = ("package.json", "package-lock.json", "provider.mjs")
INSTALL_SECONDS = 180
CLIENT_ID, CLIENT_SECRET = "tradestream-tests", "a secret that only the tests know"

PEOPLE: dict[str, dict[str, Any]] = {
    "ann": {
        "email": "Ann@Example.com",
        "email_verified": True,
        "name": "Ann\u0007 Ämter",
        "picture": "https://example.com/ann.png",
    },
    "bob": {"email": "bob@example.com", "email_verified": False, "name": "Bob"},
    "eve": {"email": "not an address", "email_verified": True, "name": "x", "picture": "javascript:alert(1)"},
}


@contextmanager
def openid_provider(redirect_uri: str) -> Iterator[str]:
    """Run the provider; yield the issuer's URL. Skips the test when the provider cannot be installed."""
    folder = _installed()
    wanted = {
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
        "redirect_uri": redirect_uri,
        "people": PEOPLE,
    }
    process = subprocess.Popen(
        ["node", "provider.mjs", json.dumps(wanted)],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            assert process.stderr is not None
            raise AssertionError(process.stderr.read())
        yield json.loads(line)["issuer"]
    finally:
        process.communicate(timeout=10)  # closes its standard input, which ends it


@cache
def _installed() -> Path:
    for tool in ("node", "npm"):
        if shutil.which(tool) is None:
            pytest.skip(f"the OpenID provider needs {tool}, which is not installed")
    contents = hashlib.sha256(b"".join((SOURCE / name).read_bytes() for name in FILES)).hexdigest()[:16]
    folder = Path.home() / ".cache" / "tradestream-tests" / f"oidc-{contents}"
    if folder.is_dir():
        return folder
    unfinished = folder.with_suffix(f".{id(folder)}")
    unfinished.mkdir(parents=True)
    for name in FILES:
        shutil.copy(SOURCE / name, unfinished)
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1"]
    try:
        done = subprocess.run(
            command, cwd=unfinished, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
        )
        if done.returncode:
            reason = next((line for line in done.stderr.splitlines() if "code" in line), done.stderr[-200:])
            pytest.skip(f"the OpenID provider cannot be installed: {reason}")
        try:
            unfinished.rename(folder)
        except OSError:
            assert folder.is_dir()  # another process was faster
    except subprocess.TimeoutExpired:
        pytest.skip(f"the OpenID provider was not installed within {INSTALL_SECONDS} s")
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


@dataclass
class Person:
    """A person at the provider's pages, whose browser keeps the provider's cookies."""

    login: str
    cookies: dict[str, str] = field(default_factory=dict)

    async def allow(self, authorize_url: str) -> str:
        """Log in and consent; return the URL to which the browser is sent in the end, without going there."""
        return await self._walk(authorize_url, consents=True)

    async def deny(self, authorize_url: str) -> str:
        """Cancel at the provider's page; return the URL to which the browser is sent in the end."""
        return await self._walk(authorize_url, consents=False)

    async def _walk(self, url: str, *, consents: bool) -> str:
        home = urlsplit(url).netloc
        prompts = ["login", "consent"]
        form: dict[str, str] | None = None
        for _ in range(12):
            response = await self._fetch(url, form)
            form = None
            if response.code in (302, 303):
                url = urljoin(url, response.headers["Location"])
                if urlsplit(url).netloc != home:
                    return url
            elif not consents:
                url += "/abort"
            else:
                assert response.code == 200, response.body
                form = {"prompt": prompts.pop(0), "login": self.login, "password": "any"}
        raise AssertionError(f"there is no end at {url}")

    async def _fetch(self, url: str, form: Mapping[str, str] | None) -> HTTPResponse:
        client = AsyncHTTPClient(force_instance=True)
        try:
            response = await client.fetch(
                HTTPRequest(
                    url,
                    method="GET" if form is None else "POST",
                    body=None if form is None else urlencode(form),
                    headers={"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())},
                    follow_redirects=False,
                ),
                raise_error=False,
            )
        finally:
            client.close()
        for line in response.headers.get_list("Set-Cookie"):
            for name, morsel in SimpleCookie(line).items():
                self.cookies[name] = morsel.value
        return response
