"""The base of the account handlers: identify the caller, ask the owner of their account, begin and keep sessions."""

from __future__ import annotations

from typing import TypedDict, TypeVar
from urllib.parse import urlsplit
from uuid import UUID

from actors._runtime.messages import Message
from actors.users.account import cut_agent
from actors.users.messages import USERS, RequestEmail, SignedIn, SignIn, account_key, address_key
from config.addresses import counted_address
from config.clock import now
from config.documents import Document
from config.ids import parse_uuid, uuid7
from config.keys import token_hash
from db.users import accounts, sessions
from db.users.accounts import PersonRow
from handlers._http.access import Claims
from handlers._http.base import GatewayHandler
from handlers._http.security import cookies_named, is_own_page
from handlers.auth._accounts import Accounts
from handlers.auth._attempts import FAILURES, TOO_MANY_WRONG, WRONG_PASSWORDS
from handlers.auth._passwords import PasswordVerdict
from handlers.auth._tokens import ACCESS_SECONDS
from schemas.errors import Forbidden, RateLimited, Unauthorized

REFRESH_COOKIE = "refresh_token"
REFRESH_PATH = "/auth"
REFRESH_SECONDS = 7 * 24 * 3600

Reply = TypeVar("Reply")


class CookieFlags(TypedDict):
    """The flags of a cookie, as Tornado calls them."""

    httponly: bool
    secure: bool
    samesite: str


class AccountHandler(GatewayHandler):
    """The base of handlers whose routes always have a caller: `/auth/*`, `/api/user/*`, follows, comments."""

    @property
    def accounts(self) -> Accounts:
        """The tools of the account handlers."""
        return self.services.accounts

    @property
    def claims(self) -> Claims:
        """The caller's claims; the route's policy ensures that there are some."""
        assert self.caller.claims is not None
        return self.caller.claims

    @property
    def user_id(self) -> UUID:
        """The caller's id. Raises Unauthorized for a token that is signed, but not by this system's rules."""
        found = parse_uuid(self.claims.subject)
        if found is None:
            raise Unauthorized("Invalid token")
        return found

    @property
    def session_id(self) -> UUID:
        """The session that the caller's token belongs to. Raises Unauthorized."""
        found = parse_uuid(self.claims.session_id or "")
        if found is None:
            raise Unauthorized("Invalid token")
        return found

    async def ask_account(self, user_id: UUID, message: Message[Reply]) -> Reply:
        """Ask the owner of the caller's account."""
        return await self.ask_users(account_key(user_id), message)

    async def ask_users(self, key: str, message: Message[Reply]) -> Reply:
        """Ask the owner of an account, of preferences or of an address."""
        return await self.ask(USERS, key, message)

    async def find_caller(self) -> PersonRow:
        """Return the caller's account as it is now. Raises Unauthorized when there is none."""
        person = await self.load(accounts.find_by_id, self.user_id)
        if person is None:
            raise Unauthorized("The account of this token does not exist")
        return person

    async def hash_password(self, password: str) -> str:
        """Return the hash to store. Raises Overloaded and RateLimited."""
        return await self.accounts.passwords.hash(password, self.caller.counted_address)

    async def check_password(self, email: str, password: str, stored: str | None) -> PasswordVerdict:
        """Check the password of the account with this address. Raises Overloaded and RateLimited.

        After some wrong ones for one account, from whatever address, strangers may try one now and then; a device
        that the user has used before may try the right one at any time.
        """
        attempts = self.accounts.attempts
        is_known = False
        if attempts.slowed(email):
            is_known = await self._is_known_device(email)
            if not is_known:
                attempts.take_turn(email)
        verdict = await self.accounts.passwords.judge(password, stored, self.caller.counted_address)
        if not verdict.matches:
            rule = self.gateway.limits.get(WRONG_PASSWORDS, FAILURES)
            if await attempts.count(self.services.limiter, rule, email):
                await self.ask_users(address_key(email), RequestEmail(uuid7(), "attempts", now()))
            if is_known and (seconds := attempts.slowed(email)):
                raise RateLimited(TOO_MANY_WRONG, retry_after=seconds)
        return verdict

    async def _is_known_device(self, email: str) -> bool:
        presented = cookies_named(self.request.headers.get_list("Cookie"), REFRESH_COOKIE)
        devices = await self.load(sessions.find_devices, email, [token_hash(each) for each in presented[:2]])
        agent = cut_agent(self.request.headers.get("User-Agent"))
        here = (self.caller.counted_address, agent)
        return any(each.has_cookie or (counted_address(each.ip), each.user_agent) == here for each in devices)

    def sole_cookie(self, name: str) -> str | None:
        """Return the cookie of this name; None without one. Raises Unauthorized for two, even if they are alike.

        A page of a sibling domain can plant one that is sent beside ours, and a browser does not say which is which.
        """
        found = cookies_named(self.request.headers.get_list("Cookie"), name)
        if len(found) > 1:
            raise Unauthorized(f"There are {len(found)} cookies of the name {name}")
        return found[0] if found else None

    async def begin_session(self, person: PersonRow, checked_hash: str | None, new_hash: str | None = None) -> Document:
        """Sign the user in and return the answer to a login, with its cookie. Raises Unauthorized."""
        refresh_token = self.accounts.refresh.first()
        signed_in = await self.ask_account(
            person.account.id,
            SignIn(
                uuid7(),
                checked_hash,
                token_hash(refresh_token),
                self.request.headers.get("User-Agent"),
                self.caller.address,
                now(),
                new_hash,
            ),
        )
        self.gateway.revoked.add(signed_in.revoked)
        return self.grant(signed_in, refresh_token, is_provider=person.is_provider)

    def grant(self, signed_in: SignedIn, refresh_token: str, *, is_provider: bool) -> Document:
        """Return the answer that carries an access token; its refresh token goes into the cookie."""
        profile = signed_in.profile
        self.set_cookie(REFRESH_COOKIE, refresh_token, path=REFRESH_PATH, max_age=REFRESH_SECONDS, **self.cookie_flags)
        return {
            "access_token": self.accounts.access.of_user(profile, signed_in.session_id, is_provider=is_provider),
            "token_type": "Bearer",
            "expires_in": ACCESS_SECONDS,
            "is_demo": False,
            "user": {
                "user_id": profile.user_id,
                "email": profile.email,
                "display_name": profile.display_name,
                "avatar_url": profile.avatar_url,
                "email_verified": profile.email_verified,
                "is_provider": is_provider,
            },
        }

    def drop_refresh_cookie(self) -> None:
        """Make the browser delete its refresh token."""
        self.clear_cookie(REFRESH_COOKIE, path=REFRESH_PATH, **self.cookie_flags)

    @property
    def cookie_flags(self) -> CookieFlags:
        """The flags of our cookies: hidden from scripts, from other sites' forms and pictures, and from plain HTTP.

        Lax, not Strict: the way back from an OAuth provider is a navigation that another site began.
        """
        is_secure = urlsplit(self.services.settings.api_url).scheme == "https"
        return {"httponly": True, "secure": is_secure, "samesite": "Lax"}

    def check_request(self) -> None:
        """Raise Forbidden for a page of a foreign origin, where the refresh cookie is sent, set or deleted.

        Browsers send cookies along without asking the page's author, and take those that they are given: another site
        could end a session, or have its visitors log in as somebody else. Programs send no Origin.
        """
        origin = self.request.headers.get("Origin")
        settings = self.gateway.settings
        if origin is None or origin in settings.cors_origins:
            return
        declared = self.declared
        touches_cookie = (declared is not None and declared.sets_cookie) or cookies_named(
            self.request.headers.get_list("Cookie"), REFRESH_COOKIE
        )
        if touches_cookie and not is_own_page(origin, self.request.host, settings.api_url):
            raise Forbidden("This origin is not allowed")
