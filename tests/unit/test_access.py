"""The caller's identity: addresses behind proxies, networks, tokens, policies."""

from __future__ import annotations

import time
from typing import Any

import jwt
import pytest

from config.settings import Settings
from handlers._http.access import (
    AUDIENCE,
    AUTHENTICATED,
    DEMO_REFUSED,
    ISSUER,
    OPTIONAL,
    PUBLIC,
    Caller,
    Claims,
    Gatekeeper,
    check_network,
    check_policy,
    permission,
)
from schemas.errors import Forbidden, Unauthorized

SETTINGS = Settings.load(None)
STRANGER = Caller("203.0.113.9", is_internal=False)


def gatekeeper(proxies: str = "") -> Gatekeeper:
    from config._variables import networks

    return Gatekeeper(SETTINGS.replace(trusted_proxies=networks(proxies)))


def token(**changes: Any) -> str:
    now = int(time.time())
    claims = {
        "sub": "0190a000-0000-7000-8000-000000000001",
        "email": "a@example.com",
        "name": "A",
        "is_demo": False,
        "is_provider": False,
        "email_verified": True,
        "permissions": ["read:signals"],
        "sid": "session",
        "iat": now,
        "exp": now + 900,
        "jti": "id",
        "iss": ISSUER,
        "aud": AUDIENCE,
    } | changes
    key = changes.pop("_key", SETTINGS.jwt_secret)
    claims.pop("_key", None)
    algorithm = claims.pop("_algorithm", "HS256")
    return jwt.encode({name: value for name, value in claims.items() if value is not None}, key, algorithm)


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.9", None, "203.0.113.9"),
        ("203.0.113.9", "10.0.0.1", "203.0.113.9"),  # the peer is no proxy of ours: what it says does not count
        ("10.9.0.1", "198.51.100.7", "198.51.100.7"),
        ("10.9.0.1", "10.0.0.1, 198.51.100.7", "198.51.100.7"),  # the left entry is the client's own invention
        ("10.9.0.1", "198.51.100.7, 10.9.0.2", "198.51.100.7"),  # two proxies of ours
        ("10.9.0.1", " 198.51.100.7:4711 ", "198.51.100.7"),
        ("10.9.0.1", "[2001:db8::7]:443", "2001:db8::7"),
        ("10.9.0.1", "::ffff:198.51.100.7", "198.51.100.7"),
        ("::ffff:10.9.0.1", "198.51.100.7", "198.51.100.7"),
        ("10.9.0.1", "10.9.0.3", "10.9.0.3"),  # a proxy's own request
        ("10.9.0.1", None, "10.9.0.1"),
        ("10.9.0.1", ",, 198.51.100.7,", "198.51.100.7"),
    ],
)
def test_the_client_is_the_rightmost_address_that_is_no_trusted_proxy(
    peer: str, forwarded: str | None, client: str
) -> None:
    assert gatekeeper("10.9.0.0/16").locate(peer, forwarded).address == client


@pytest.mark.parametrize(
    ("peer", "forwarded", "relayed"),
    [
        ("127.0.0.1", None, False),
        ("127.0.0.1", "198.51.100.7", True),
        ("::ffff:127.0.0.1", "198.51.100.7", True),
        ("::1", "unknown", True),
        ("192.168.1.1", "", True),  # the header is there
        ("10.9.0.1", "198.51.100.7", False),  # the trusted proxy
        ("10.9.0.1", "10.0.0.2", False),
        ("10.9.0.1", None, False),
        ("10.9.0.1", "198.51.100.7, 10.0.0.2", True),  # behind it a proxy that is not configured
        ("10.9.0.1", "nonsense, 10.0.0.2", True),
        ("10.9.0.1", " , 10.0.0.2", False),
        ("10.9.0.1", "198.51.100.7, 10.9.0.2", False),
    ],
)
def test_a_peer_that_forwards_and_is_no_trusted_proxy_is_a_relay(
    peer: str, forwarded: str | None, relayed: bool
) -> None:
    """The kind: a proxy's own address that stands for all clients behind it."""
    assert gatekeeper("10.9.0.0/16").locate(peer, forwarded).is_relayed is relayed


@pytest.mark.parametrize("entry", ["unknown", "10.0.0.1 evil", "_hidden", "999.1.1.1", "10.0.0.1/8"])
def test_text_that_is_no_address_is_never_internal(entry: str) -> None:
    assert not gatekeeper("10.9.0.0/16").locate("10.9.0.1", entry).is_internal


@pytest.mark.parametrize(
    ("address", "internal"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("172.31.255.255", True),
        ("172.32.0.0", False),
        ("192.168.0.5", True),
        ("fd00::1", True),
        ("fe80::1%eth0", False),
        ("::ffff:10.0.0.1", True),
        ("::ffff:8.8.8.8", False),
        ("8.8.8.8", False),
        ("", False),
    ],
)
def test_internal_is_what_the_setting_says(address: str, internal: bool) -> None:
    caller = gatekeeper().locate(address, None)
    assert caller.is_internal is internal
    if not internal:
        with pytest.raises(Forbidden, match="only accessible from internal network"):
            check_network(caller)


async def test_a_valid_token_names_its_user() -> None:
    caller = await gatekeeper().identify(STRANGER, AUTHENTICATED, f"bearer  {token()}", None)
    assert caller.claims is not None
    assert caller.subject == "0190a000-0000-7000-8000-000000000001"
    assert caller.claims.permissions == {"read:signals"}
    check_policy(caller, AUTHENTICATED)


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": int(time.time()) - 1},
        {"exp": None},
        {"exp": "soon"},
        {"iss": "somebody.else"},
        {"iss": None},
        {"aud": "another-api"},
        {"aud": None},
        {"sub": None},
        {"sub": 7},
        {"jti": None},
        {"sid": None},
        {"permissions": "read:signals"},
        {"permissions": [1]},
        {"_key": "x" * 64},
        {"_algorithm": "HS384"},
    ],
)
@pytest.mark.parametrize("access", [OPTIONAL, AUTHENTICATED])
async def test_a_token_that_is_not_right_in_every_part_is_refused_on_optional_routes_too(
    changes: dict[str, Any], access: Any
) -> None:
    with pytest.raises(Unauthorized) as caught:
        await gatekeeper().identify(STRANGER, access, f"Bearer {token(**changes)}", None)
    assert caught.value.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'


async def test_an_unsigned_token_is_refused() -> None:
    header_and_claims = jwt.encode({"sub": "x"}, "", "none")
    with pytest.raises(Unauthorized):
        await gatekeeper().identify(STRANGER, OPTIONAL, f"Bearer {header_and_claims}", None)


@pytest.mark.parametrize("header", ["Bearer", "Bearer ", "Bearer a.b", "bearer Basic", "BEARER a, Bearer b"])
async def test_a_bearer_that_is_no_token_is_refused(header: str) -> None:
    with pytest.raises(Unauthorized):
        await gatekeeper().identify(STRANGER, OPTIONAL, header, None)


OTHERS = [
    *("Basic dXNlcjpwYXNz", "Digest username=x, realm=y", "Negotiate YII=", "ApiKey 1", "garbage", "", " "),
    *("Bearers a.b.c", "Basic dXNlcjpwYXNz,Bearer a.b.c"),
]


@pytest.mark.parametrize("header", OTHERS)
async def test_a_scheme_that_is_not_ours_names_nobody(header: str) -> None:
    """The kind: credentials for another system, such as a proxy or a staging site, taken for bad ones of ours."""
    keeper = gatekeeper()
    assert (await keeper.identify(STRANGER, OPTIONAL, header, None)).claims is None
    assert (await keeper.identify(STRANGER, OPTIONAL.with_query_token, header, None)).claims is None
    named = await keeper.identify(STRANGER, OPTIONAL.with_query_token, header, token())
    assert named.claims is not None, "the query's token counts: an EventSource sends what its site was opened with"
    nobody = await keeper.identify(STRANGER, AUTHENTICATED, header, None)
    with pytest.raises(Unauthorized):
        check_policy(nobody, AUTHENTICATED)


async def test_a_public_route_does_not_look_at_tokens() -> None:
    assert await gatekeeper().identify(STRANGER, PUBLIC, "Bearer nonsense", "nonsense") is STRANGER


async def test_the_query_token_counts_on_streams_only_and_after_the_header() -> None:
    keeper = gatekeeper()
    assert (await keeper.identify(STRANGER, OPTIONAL, None, token())).claims is None
    assert (await keeper.identify(STRANGER, OPTIONAL.with_query_token, None, token())).claims is not None
    named = await keeper.identify(STRANGER, OPTIONAL.with_query_token, f"Bearer {token(sub='header')}", token())
    assert named.subject == "header"


async def test_a_revoked_session_is_refused_at_once() -> None:
    class Revoked:
        async def is_revoked(self, claims: Claims) -> bool:
            return claims.session_id == "session"

    keeper = Gatekeeper(SETTINGS, Revoked())
    with pytest.raises(Unauthorized, match="has ended"):
        await keeper.identify(STRANGER, OPTIONAL, f"Bearer {token()}", None)
    assert (await keeper.identify(STRANGER, OPTIONAL, f"Bearer {token(sid='other')}", None)).claims is not None


async def test_policies_tell_no_token_from_the_wrong_one() -> None:
    keeper = gatekeeper()
    demo = await keeper.identify(
        STRANGER, OPTIONAL, f"Bearer {token(is_demo=True, sub='demo', sid=None, permissions=['read:providers'])}", None
    )
    user = await keeper.identify(STRANGER, OPTIONAL, f"Bearer {token()}", None)
    for access in (PUBLIC, OPTIONAL):
        for caller in (STRANGER, demo, user):
            check_policy(caller, access)
    with pytest.raises(Unauthorized):
        check_policy(STRANGER, AUTHENTICATED)
    with pytest.raises(Forbidden, match=DEMO_REFUSED):
        check_policy(demo, AUTHENTICATED)
    check_policy(user, AUTHENTICATED)
    check_policy(demo, permission("read:providers"))
    check_policy(user, permission("read:signals"))
    with pytest.raises(Forbidden, match=DEMO_REFUSED):
        check_policy(demo, permission("write:provider"))
    with pytest.raises(Forbidden, match="write:provider"):
        check_policy(user, permission("write:provider"))
    assert demo.subject is None
