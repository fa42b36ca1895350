"""Bound the open connections: in all, and from one address."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network

from config.addresses import counted_address, parse_address

ADDRESSES = 4096  # whose counted form is cached

_LOOPBACK = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))


class ConnectionLimits:
    """Count open connections by peer address.

    `proxies` carry many clients, and so may a program on this machine: their connections count in the total only, as do
    those over a Unix socket.
    """

    def __init__(self, total: int, per_address: int, proxies: Sequence[IPv4Network | IPv6Network] = ()) -> None:
        self._total = total
        self._per_address = per_address
        self._exempt = (*_LOOPBACK, *proxies)
        self._open = 0
        self._by_address: Counter[str] = Counter()
        self._key = lru_cache(ADDRESSES)(self._find_key)

    def enter(self, address: str) -> str | None:
        """Count a connection; or return the bound that forbids it, `all` or `address`, without counting it."""
        if self._open >= self._total:
            return "all"
        key = self._key(address)
        if key is not None:
            if self._by_address[key] >= self._per_address:
                return "address"
            self._by_address[key] += 1
        self._open += 1
        return None

    def leave(self, address: str) -> None:
        """Stop counting a connection that has ended, or is HTTP no more."""
        self._open -= 1
        key = self._key(address)
        if key is not None:
            self._by_address[key] -= 1
            if not self._by_address[key]:
                del self._by_address[key]

    def _find_key(self, address: str) -> str | None:
        parsed = parse_address(address)
        if parsed is None or any(parsed in network for network in self._exempt):
            return None
        return counted_address(str(parsed))
