"""Sign in and out, stay signed in, look around without an account."""

from __future__ import annotations

from actors.users.account import BAD_CREDENTIALS
from actors.users.messages import EndSessions, Refresh, Refused
from config.clock import now
from config.documents import Loaded
from config.keys import token_hash
from config.metrics import LOGINS, REFRESHES
from db.users import accounts, sessions
from handlers._http.endpoint import endpoint
from handlers.auth._account_handler import REFRESH_COOKIE, AccountHandler
from handlers.auth._tokens import DEMO_SECONDS
from schemas.auth import AccessGranted, Login, LogoutQuery, Said
from schemas.errors import Forbidden, Unauthorized

TOKEN_CHARACTERS = 200  # ours have 43


class Logins(AccountHandler):
    """`/auth/login`"""

    @endpoint(
        "Log in", body=Login(), responds=AccessGranted(), errors=(401, 403, 503), sets_cookie="A new session's token."
    )
    async def post(self, body: Loaded) -> object:
        """An unknown address takes as much time as a wrong password, and gets the same answer."""
        person = await self.load(accounts.find_by_email, body["email"])
        stored = None if person is None else person.account.password_hash
        verdict = await self.check_password(body["email"], body["password"], stored)
        if not verdict.matches or person is None:
            LOGINS.labels("password", "bad_credentials").inc()
            raise Unauthorized(BAD_CREDENTIALS)
        if not person.account.email_verified:
            LOGINS.labels("password", "unverified").inc()
            raise Forbidden("Email not verified")
        new_hash = await self.hash_password(body["password"]) if verdict.is_outdated else None
        granted = await self.begin_session(person, stored, new_hash)
        LOGINS.labels("password", "granted").inc()
        return granted


class Refreshes(AccountHandler):
    """`/auth/refresh`"""

    @endpoint(
        "Get a new access token for the refresh cookie",
        responds=AccessGranted(),
        errors=(401, 503),
        sets_cookie="The token that takes the place of the one that was presented.",
    )
    async def post(self) -> object:
        """Rotates the cookie; presenting one that was rotated out ends its session."""
        token = self.sole_cookie(REFRESH_COOKIE)
        if not token or len(token) > TOKEN_CHARACTERS:
            raise Unauthorized("A refresh token is required")
        presented = token_hash(token)
        holder = await self.load(sessions.find_holder, presented)
        if holder is None:
            REFRESHES.labels("unknown").inc()
            raise Unauthorized("Invalid refresh token")
        successor = self.accounts.refresh.successor(token)
        answer = await self.ask_account(
            holder.user_id,
            Refresh(
                holder.session_id,
                presented,
                token_hash(successor),
                self.request.headers.get("User-Agent"),
                self.caller.address,
                now(),
            ),
        )
        if isinstance(answer, Refused):
            REFRESHES.labels("reused" if answer.revoked else "ended").inc()
            self.gateway.revoked.add(answer.revoked)
            raise Unauthorized(answer.reason)
        REFRESHES.labels("granted").inc()
        return self.grant(answer, successor, is_provider=holder.is_provider)


class Logouts(AccountHandler):
    """`/auth/logout`"""

    @endpoint(
        "Log out", query=LogoutQuery(), responds=Said(), errors=(503,), sets_cookie="Empty and expired: it is dropped."
    )
    async def post(self, query: Loaded) -> object:
        """Invalidates this session's tokens from now on; with `all`, those of every session."""
        own = self.session_id
        ended = await self.ask_account(self.user_id, EndSessions(None if query["all"] else own))
        self.gateway.revoked.add((own, *ended))
        self.drop_refresh_cookie()
        return {"message": "Logged out everywhere" if query["all"] else "Logged out"}


class Demos(AccountHandler):
    """`/auth/demo`"""

    @endpoint("Look around without an account", responds=AccessGranted())
    async def post(self) -> object:
        """Answers a token that reads signals and providers for an hour."""
        return {
            "access_token": self.accounts.access.of_demo(),
            "token_type": "Bearer",
            "expires_in": DEMO_SECONDS,
            "is_demo": True,
            "user": None,
        }
