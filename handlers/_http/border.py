"""Guard the internal API: what a request to it must have beyond an internal address.

A browser inside the network can be made to send requests by any page that it shows, and a proxy that is not configured
lends its own address to all of its clients. docs/network.md describes it for operators.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import urlsplit

from tornado.httputil import HTTPHeaders

from config.addresses import parse_address
from config.settings import Settings
from handlers._http.access import Caller, check_network
from handlers._http.security import is_page_of
from schemas.errors import Forbidden

log = logging.getLogger(__name__)

HOST_CHARACTERS = 300  # a name has 253 at most
HOSTS = 1024  # cached verdicts on whether a name is ours: a flood of invented names fills 300 KB at most

_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::[0-9]{0,5})?")
_LABELS = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")
_NUMBERS = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)(?:\.(?:0x[0-9a-f]*|[0-9]+)){0,3}")
_OWN_DOMAINS = (".local", ".internal", ".localhost", ".svc", ".cluster.local")  # names that no registrar sells
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN_SITES = frozenset({"same-origin", "none"})  # none: a URL that a person has typed or opened
_RELAYED = "This request came through a proxy that is not configured: TRUSTED_PROXIES names those that are"


class Border:
    """Checks requests to the internal API, by the settings of this process."""

    def __init__(self, settings: Settings) -> None:
        api_host = urlsplit(settings.api_url).hostname or ""
        self._names: set[str] = set()
        self._domains: tuple[str, ...] = _OWN_DOMAINS
        self.knows_host = lru_cache(maxsize=HOSTS)(self._knows_host)
        self.add_names([api_host, socket.gethostname(), *settings.allowed_hosts])
        self._has_warned = False

    def add_names(self, names: Iterable[str]) -> None:
        """Accept these host names too; `.example.com` is all names under it."""
        given = [each.lower().rstrip(".") for each in names]
        self._names |= {each for each in given if each and not each.startswith(".")}
        self._domains += tuple(each for each in given if each.startswith("."))
        self.knows_host.cache_clear()

    async def learn_own_name(self) -> None:
        """Accept this machine's full name, which may take a query to a name server."""
        self.add_names([await asyncio.to_thread(socket.getfqdn)])

    def check(self, caller: Caller, method: str, host: str, headers: HTTPHeaders, *, is_socket: bool) -> None:
        """Raise Forbidden unless the request may reach the internal API."""
        check_network(caller)
        if caller.is_relayed or _names_a_client_otherwise(headers):
            self.warn(caller)
            raise Forbidden(_RELAYED)
        self.check_host(host)
        if (is_socket or method not in _SAFE_METHODS) and _is_of_another_page(headers, host):
            raise Forbidden("Pages of other origins may not use the internal API")

    def check_host(self, host: str) -> None:
        """Raise Forbidden for a host name that is not known to be this server's.

        The owner of a name can let it lead to any address (DNS rebinding): for a browser, their page and this server
        are then one origin, and only the `Host` header tells them apart.
        """
        if len(host) > HOST_CHARACTERS or not self.knows_host(host):
            raise Forbidden("This Host is not known here: ALLOWED_HOSTS names those that are")

    def warn(self, caller: Caller) -> None:
        """Log once that there is a proxy that is not configured."""
        if not self._has_warned:
            self._has_warned = True
            log.warning(
                "a proxy that is not in TRUSTED_PROXIES sends requests (X-Forwarded-For or the like, from %s): all of "
                "its clients count as one, and /api/v1 and /metrics are closed to them",
                caller.address,
            )

    def _knows_host(self, host: str) -> bool:
        match = _HOST.fullmatch(host.lower())
        if match is None:
            return False
        if match[1] is not None:
            return parse_address(match[1]) is not None
        name = match[2].removesuffix(".")
        if _LABELS.fullmatch(name) is None:
            return False
        if "." not in name or name in self._names or _is_ipv4(name):
            return True
        return name.endswith(self._domains)


def _is_ipv4(name: str) -> bool:
    # As browsers and curl read it, `127.1` included: no name of the DNS ends in a number.
    if _NUMBERS.fullmatch(name) is None:
        return False
    try:
        socket.inet_aton(name)
    except OSError:
        return False
    return True


def _names_a_client_otherwise(headers: HTTPHeaders) -> bool:
    # The client that such a proxy names is not read, even if trusted: its own address would stand for all clients.
    if "X-Real-IP" not in headers and "Forwarded" not in headers:
        return False
    return not headers.get("X-Forwarded-For", "").strip(", \t")


def _is_of_another_page(headers: HTTPHeaders, host: str) -> bool:
    site = headers.get("Sec-Fetch-Site")
    if site is not None and site.lower() not in _OWN_SITES:
        return True
    origin = headers.get("Origin")
    return origin is not None and not is_page_of(origin, host)
