"""Hold the tools of the account handlers: all that has secrets, threads and connections, made once per process."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from config.settings import Settings
from handlers.auth._attempts import Attempts
from handlers.auth._oauth import OAuthClient
from handlers.auth._passwords import WAITING_OF_ONE, Passwords
from handlers.auth._tokens import AccessTokens, RefreshTokens


@dataclass(frozen=True, slots=True)
class Accounts:
    """The tools of the account handlers, made once per process, in its event loop."""

    passwords: Passwords
    access: AccessTokens
    refresh: RefreshTokens
    oauth: OAuthClient
    attempts: Attempts = field(default_factory=Attempts)
    registering: dict[str, asyncio.Future[None]] = field(default_factory=dict)  # by address

    @classmethod
    def of(cls, settings: Settings) -> Accounts:
        """Build the tools from the settings."""
        return cls(
            Passwords(settings.password_pepper, waiting_of_one=WAITING_OF_ONE if settings.rate_limit_enabled else None),
            AccessTokens(settings.jwt_secret, settings.jwt_algorithm),
            RefreshTokens.of(settings),
            OAuthClient(settings),
        )

    def close(self) -> None:
        """End the threads and connections."""
        self.passwords.close()
        self.oauth.close()
