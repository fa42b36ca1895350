"""Check addresses in settings: whether they are valid, and whether they lead to this machine alone."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from marshmallow import ValidationError
from marshmallow.validate import Validator

_HOST_PORT = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[^\s\[\]:/@,?#]+):([0-9]{1,5})")
_POSTGRES_SCHEMES = re.compile(
    r"(?:postgres|postgresql)(?:\+(?:asyncpg|psycopg|psycopg2|psycopg_async))?(?=://)", re.IGNORECASE
)
# Parameters of SQLAlchemy's asyncpg dialect: they concern its own pool, and Postgres would read them as its settings.
_FOREIGN_OPTIONS = frozenset({"async_fallback", "prepared_statement_cache_size", "prepared_statement_name_func"})


class Url(Validator):
    """A URL of one of `schemes`; `error` says what is expected."""

    def __init__(self, *schemes: str, error: str, needs_host: bool = True, path: str | None = None) -> None:
        self.schemes = schemes
        self.expected = error
        self._needs_host = needs_host
        self._path = None if path is None else re.compile(path)

    def __call__(self, value: str) -> str:
        """Return the value. Raises ValidationError."""
        try:
            parts = urlsplit(value)
            has_host = bool(parts.hostname)
            _ = parts.port  # raises ValueError for an invalid port
        except ValueError:
            raise ValidationError(self.expected) from None
        wrong_path = self._path is not None and self._path.fullmatch(parts.path) is None
        if parts.scheme not in self.schemes or "://" not in value or (self._needs_host and not has_host) or wrong_path:
            raise ValidationError(self.expected)
        if re.search(r"\s", value):
            raise ValidationError(self.expected)
        return value


WEB_URL = Url("http", "https", error="a URL that begins with http:// or https://")


class RedisUrl(Url):
    """A URL for redis-py: by TCP, by TLS, or by a Unix socket."""

    def __init__(self) -> None:
        super().__init__(
            *("redis", "rediss", "unix"), error="a URL as in redis://host:6379/0, rediss://… or unix:///path"
        )

    def __call__(self, value: str) -> str:
        """Return the value. Raises ValidationError."""
        is_socket = value.startswith("unix:")
        self._needs_host, self._path = not is_socket, re.compile("/.+" if is_socket else "/?[0-9]*")
        return super().__call__(value)


class HostPorts(Validator):
    """`host:port`, or several of them separated by commas."""

    def __init__(self, *, error: str, several: bool = False, words: frozenset[str] = frozenset()) -> None:
        self.expected = error
        self._several = several
        self._words = words

    def __call__(self, value: str) -> str:
        """Return the value. Raises ValidationError."""
        items = [item.strip() for item in value.split(",")] if self._several else [value]
        for item in items:
            match = _HOST_PORT.fullmatch(item.removeprefix("ray://") if not self._several else item)
            if item not in self._words and (match is None or not 0 < int(match[1]) < 1 << 16):
                raise ValidationError(self.expected)
        return value


def postgres_url(text: str) -> str:
    """Convert a DSN that names a driver, as SQLAlchemy's do, to one for PostgreSQL's own drivers."""
    if (match := _POSTGRES_SCHEMES.match(text)) is None:
        return text
    url = "postgresql" + text[match.end() :]
    parts = urlsplit(url)
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    if not any(name == "ssl" or name in _FOREIGN_OPTIONS for name, _ in pairs):
        return url
    modes = {"true": "require", "1": "require", "false": "disable", "0": "disable"}
    kept = [
        ("sslmode", modes.get(value.lower(), value)) if name == "ssl" else (name, value)
        for name, value in pairs
        if name not in _FOREIGN_OPTIONS
    ]
    return urlunsplit(parts._replace(query=urlencode(kept, safe="/")))


def is_local(url: str) -> bool:
    """Return whether the URL's host is a name or address of this machine that no other machine reaches."""
    host = (urlsplit(url).hostname or "").rstrip(".").lower()
    if host == "localhost" or host.endswith((".localhost", ".localdomain")):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return bool(mapped.is_loopback or mapped.is_unspecified or mapped.is_link_local)
