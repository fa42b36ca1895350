"""Make the tokens that callers hold: signed access tokens, opaque refresh tokens."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from uuid import UUID

import jwt

from actors.users.messages import Profile
from config.clock import now
from config.keys import derive_key, derive_token, encode_token
from config.settings import Settings
from handlers._http.access import AUDIENCE, ISSUER
from schemas._vocabulary import Permission

ACCESS_SECONDS = 900
DEMO_SECONDS = 3600

EVERYONE: tuple[Permission, ...] = ("read:signals", "read:providers")
VERIFIED: tuple[Permission, ...] = (
    *("write:settings", "write:watchlist", "write:follows", "write:reactions", "read:achievements"),
)
PROVIDERS: tuple[Permission, ...] = ("write:provider",)


def permissions_of(*, email_verified: bool, is_provider: bool) -> list[str]:
    """Return an account's permissions."""
    return [*EVERYONE, *(VERIFIED if email_verified else ()), *(PROVIDERS if is_provider else ())]


@dataclass(frozen=True, slots=True)
class AccessTokens:
    """Makes the tokens that `Gatekeeper.read_token` accepts."""

    secret: str
    algorithm: str

    def of_user(self, profile: Profile, session_id: UUID, *, is_provider: bool) -> str:
        """Make a token of a session, for 15 minutes."""
        return self._sign(
            ACCESS_SECONDS,
            sub=str(profile.user_id),
            email=profile.email,
            name=profile.display_name,
            is_demo=False,
            is_provider=is_provider,
            email_verified=profile.email_verified,
            permissions=permissions_of(email_verified=profile.email_verified, is_provider=is_provider),
            sid=str(session_id),
        )

    def of_demo(self) -> str:
        """Make a demo token, for an hour."""
        return self._sign(
            DEMO_SECONDS,
            sub="demo",
            email=None,
            name="Demo",
            is_demo=True,
            is_provider=False,
            email_verified=False,
            permissions=list(EVERYONE),
            sid=None,  # no session: nothing can be revoked, not even by mistake
        )

    def _sign(self, seconds: int, **claims: object) -> str:
        issued_at = int(now().timestamp())
        times = {"iat": issued_at, "exp": issued_at + seconds}
        names = {"jti": secrets.token_hex(16), "iss": ISSUER, "aud": AUDIENCE}
        return jwt.encode({**claims, **times, **names}, self.secret, self.algorithm)


@dataclass(frozen=True, slots=True)
class RefreshTokens:
    """Makes refresh tokens. Each leads to one successor, which only we can derive.

    So a concurrent retry gets the same successor from any gateway, and no token is kept anywhere, not even for seconds.
    """

    key: bytes

    @classmethod
    def of(cls, settings: Settings) -> RefreshTokens:
        """Build it with the key that all gateways share."""
        return cls(derive_key(settings.jwt_secret, "refresh"))

    @staticmethod
    def first() -> str:
        """Return the first token of a family."""
        return encode_token(secrets.token_bytes(32))

    def successor(self, token: str) -> str:
        """Return the token that replaces this one."""
        return derive_token(self.key, token.encode())
