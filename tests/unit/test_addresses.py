"""The key under which a client's address is counted.

The kind of fault: a limit keyed by something that its subject has 2^64 of. A rented server has a whole /64.
"""

from __future__ import annotations

import pytest

from config.addresses import counted_address
from handlers._http.access import Caller
from handlers.streams.connections import viewer_of


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("2001:db8:1:2::3", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::3", "2001:db8:1:3::/64"),
        ("2001:0DB8:0001:0002:0::3", "2001:db8:1:2::/64"),
        ("::ffff:198.51.100.7", "198.51.100.7"),
        ("::ffff:c633:6407", "198.51.100.7"),
        ("64:ff9b::198.51.100.7", "198.51.100.7"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("0.0.0.0", "0.0.0.0"),
        ("nobody", "nobody"),
        ("", ""),
    ],
)
def test_ipv6_counts_by_64_bits_and_ipv4_as_itself(address: str, counted: str) -> None:
    assert counted_address(address) == counted


def test_requests_and_streams_count_by_it_and_the_address_is_shown_as_it_is() -> None:
    caller = Caller("2001:db8:1:2::3", is_internal=False)
    assert caller.counted_address == viewer_of(caller, caller.address).address == "2001:db8:1:2::/64"
    assert caller.address == "2001:db8:1:2::3"
