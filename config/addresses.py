"""Parse client addresses, and derive the form that limits count by."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

COUNTED_BITS = 64  # of an IPv6 address: what a provider gives to one customer is at least this whole network
_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: an IPv4 client behind a translator


def parse_address(text: str) -> Address | None:
    """Parse an address; None if invalid. IPv4 inside of IPv6 is IPv4; a scope (`%eth0`) is left out."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        # A dual-stack socket shows IPv4 peers so; and a scope is this machine's name for a link, not the peer's.
        return address.ipv4_mapped or ipaddress.IPv6Address(int(address))
    return address


@lru_cache(maxsize=4096)
def counted_address(text: str) -> str:
    """Return the form that every limit per client address counts by: an IPv4 address, or the /64 of an IPv6 one.

    A /64 is a household's or a server's, all 2^64 addresses of it: counted singly they would be no limit. Text that is
    no address counts as it is written.
    """
    address = parse_address(text)
    if address is None:
        return text
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address in _TRANSLATED:  # else all of the IPv4 internet would be one client
        return str(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return str(ipaddress.IPv6Network((int(address), COUNTED_BITS), strict=False))
