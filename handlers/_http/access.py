"""Identify callers and apply the routes' policies: address, network, token. Nothing else decides access."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal, Protocol

import jwt

from config._variables import Network
from config.addresses import Address, counted_address, parse_address
from config.settings import Settings
from schemas._vocabulary import Permission
from schemas.errors import Forbidden, Unauthorized

ISSUER = "tradestream.io"
AUDIENCE = "tradestream-api"
OUTSIDER = "Access denied. This API is only accessible from internal network."
DEMO_REFUSED = "Demo users cannot access this resource"


@dataclass(frozen=True, slots=True)
class Access:
    """A route's policy. `identity` says how a token is treated: where it is `ignored`, a token is not even read.

    `cookie`: the caller is the holder of the refresh cookie; the handler looks it up.
    """

    name: str
    identity: Literal["ignored", "optional", "required"] = "ignored"
    internal: bool = False
    permission: Permission | None = None
    query_token: bool = False
    cookie: bool = False

    @property
    def with_query_token(self) -> Access:
        """Return the policy of a stream, whose clients cannot send headers: `?access_token=` is accepted too."""
        return replace(self, query_token=True)


PUBLIC = Access("public")
OPTIONAL = Access("optional token", identity="optional")
AUTHENTICATED = Access("authenticated", identity="required")
INTERNAL = Access("internal network", internal=True)
COOKIE_HOLDER = Access("refresh cookie", cookie=True)


def permission(name: Permission) -> Access:
    """Return the policy for callers whose token holds the permission."""
    return Access(f"permission {name}", identity="required", permission=name)


@dataclass(frozen=True, slots=True)
class Claims:
    """The claims of a valid access token. `session_id` is None for a demo token."""

    subject: str
    email: str | None
    name: str | None
    is_demo: bool
    is_provider: bool
    email_verified: bool
    permissions: frozenset[str]
    session_id: str | None
    token_id: str
    expires_at: float


@dataclass(frozen=True, slots=True)
class Caller:
    """The origin of a request: `address` is the client behind the trusted proxies.

    `is_relayed`: the client at `address` says that it forwards for others, and is no trusted proxy.
    """

    address: str
    is_internal: bool
    is_relayed: bool = False
    claims: Claims | None = None

    @property
    def subject(self) -> str | None:
        """The user's id, or None without a token (and for a demo token, which belongs to no user)."""
        return None if self.claims is None or self.claims.is_demo else self.claims.subject

    @property
    def counted_address(self) -> str:
        """The address as the limits per client address count it."""
        return counted_address(self.address)


class Revocations(Protocol):
    """Knows which sessions have been ended before their tokens expired."""

    async def is_revoked(self, claims: Claims) -> bool:
        """Whether the token's session has been revoked."""


class Gatekeeper:
    """Resolves callers and applies policies, by the settings of this process."""

    def __init__(self, settings: Settings, revocations: Revocations | None = None) -> None:
        self._trusted = settings.trusted_proxies
        self._internal = settings.internal_networks
        self._secret = settings.jwt_secret
        self._algorithm = settings.jwt_algorithm
        self._revocations = revocations
        # Clients keep their address: parsing it and matching networks is done once for each.
        self.locate = lru_cache(maxsize=4096)(self._locate)

    def _locate(self, peer: str, forwarded_for: str | None) -> Caller:
        """Return the caller's address, whether it is internal, and whether it forwards for others.

        The chain is read from the right, past trusted proxies, to the first address that is none. An entry that is not
        an address ends the walk: its writer is known, but not the client it stands for, so it is never internal.
        """
        client = parse_address(peer)
        if client is None:
            return Caller(peer, is_internal=False, is_relayed=forwarded_for is not None)
        chain = forwarded_for.split(",") if forwarded_for else []
        is_direct = True
        while chain and _within(client, self._trusted):
            entry = chain.pop().strip()
            if not entry:
                continue
            is_direct = False
            hop = parse_address(_without_port(entry))
            if hop is None:
                return Caller(str(client), is_internal=False)
            client = hop
        is_proxy = _within(client, self._trusted)
        is_relayed = not is_proxy and (
            forwarded_for is not None if is_direct else any(entry.strip() for entry in chain)
        )
        return Caller(str(client), _within(client, self._internal), is_relayed)

    async def identify(self, caller: Caller, access: Access, authorization: str | None, query: str | None) -> Caller:
        """Return the caller, with the claims of their token if the policy asks for one. Raises Unauthorized.

        `authorization` is the header, `query` the `?access_token=`; the header wins where both are present. Schemes
        other than Bearer are not ours (a proxy's, a staging site's) and identify no caller.
        """
        if access.identity == "ignored":
            return caller
        text = None if authorization is None else _bearer(authorization)
        if text is None and access.query_token:
            text = query
        if text is None:
            return caller
        claims = self.read_token(text)
        if self._revocations is not None and await self._revocations.is_revoked(claims):
            raise _invalid_token("The session of this token has ended")
        return replace(caller, claims=claims)

    def read_token(self, text: str) -> Claims:
        """Return the claims of a valid access token. Raises Unauthorized."""
        try:
            payload = jwt.decode(
                text,
                self._secret,
                algorithms=[self._algorithm],
                issuer=ISSUER,
                audience=AUDIENCE,
                # iat is not checked: another gateway's clock may run a little ahead of this one's.
                options={"require": ["exp", "iat", "sub", "jti", "iss", "aud"], "verify_iat": False},
            )
            return _claims(payload)
        except jwt.ExpiredSignatureError:
            raise _invalid_token("Token has expired") from None
        except (jwt.InvalidTokenError, KeyError, TypeError, ValueError, OverflowError, RecursionError):
            raise _invalid_token("Invalid token") from None


def check_network(caller: Caller) -> None:
    """Raise Forbidden for callers outside the internal networks."""
    if not caller.is_internal:
        raise Forbidden(OUTSIDER)


def check_policy(caller: Caller, access: Access) -> None:
    """Raise Unauthorized or Forbidden unless the (identified) caller meets the policy."""
    if access.identity != "required":
        return
    claims = caller.claims
    if claims is None:
        raise Unauthorized
    if access.permission is not None:
        if access.permission in claims.permissions:
            return
        needed = f"This needs the permission {access.permission}; a token from before it was given must be refreshed"
        raise Forbidden(DEMO_REFUSED if claims.is_demo else needed)
    if claims.is_demo:
        raise Forbidden(DEMO_REFUSED)


def _claims(payload: Mapping[str, Any]) -> Claims:
    permissions = payload.get("permissions", [])
    if not isinstance(permissions, list) or not all(isinstance(each, str) for each in permissions):
        raise TypeError("permissions")
    is_demo = payload.get("is_demo", False) is True
    if not is_demo and not isinstance(payload.get("sid"), str):
        raise KeyError("sid")
    return Claims(
        subject=payload["sub"],
        email=payload.get("email"),
        name=payload.get("name"),
        is_demo=is_demo,
        is_provider=payload.get("is_provider", False) is True,
        email_verified=payload.get("email_verified", False) is True,
        permissions=frozenset(permissions),
        session_id=None if is_demo else payload["sid"],
        token_id=payload["jti"],
        expires_at=float(payload["exp"]),
    )


def _invalid_token(message: str) -> Unauthorized:
    return Unauthorized(message, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})


def _bearer(authorization: str) -> str | None:
    # The token, or None for another scheme. Raises Unauthorized for a Bearer without a token.
    scheme, _, token = authorization.strip().partition(" ")
    if scheme.lower() != "bearer":
        return None
    if not token.strip():
        raise _invalid_token("Invalid token")
    return token.strip()


def _without_port(entry: str) -> str:
    if entry.startswith("["):
        return entry[1:].partition("]")[0]
    return entry.partition(":")[0] if entry.count(":") == 1 else entry


def _within(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)
