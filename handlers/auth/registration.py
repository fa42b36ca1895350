"""Register accounts, and verify their addresses."""

from __future__ import annotations

import asyncio
import copy
import secrets
from urllib.parse import quote
from uuid import UUID

from actors.users.account import EMAIL_TAKEN
from actors.users.messages import Profile, Register, RequestEmail, VerifyEmail, address_key
from actors.users.referrals import REFERRALS
from config.clock import now
from config.documents import Loaded
from config.ids import uuid7
from config.keys import token_hash
from config.metrics import REGISTRATIONS
from db import achievements, referrals
from db._postgres import Connection, connection
from db.users import accounts, tokens
from db.users.accounts import AccountRow
from handlers._http.endpoint import endpoint
from handlers.auth._account_handler import AccountHandler
from schemas.auth import AddressBody, Registered, Registration, Said, TokenBody, TokenQuery
from schemas.errors import Conflict, InvalidQuery, Unavailable, ValidationFailed

# Without characters that are mistaken for others when read aloud or written by hand: 0 O, 1 I L.
CODE_ALPHABET = "ABCDEFGHJKMNPQRSTUVWXYZ23456789"
CODE_CHARACTERS = 6
CANDIDATES = 8  # of 887 million codes: one of them is free however many users there are

CHECK_YOUR_MAIL = "If this address needs to be verified, an e-mail is on its way"
BAD_TOKEN = "is invalid, expired or used"  # noqa: S105 - a message


class Registrations(AccountHandler):
    """`/auth/register`"""

    @endpoint("Register", body=Registration(), responds=Registered(), status=201, errors=(409, 503))
    async def post(self, body: Loaded) -> object:
        """Answered when the account and the e-mail to its address are durable."""
        try:
            profile = await self._alone(body)
        except Conflict:
            REGISTRATIONS.labels("password", "taken").inc()
            raise
        REGISTRATIONS.labels("password", "made").inc()
        return {
            "user_id": profile.user_id,
            "email": profile.email,
            "display_name": profile.display_name,
            "email_verified": profile.email_verified,
            "message": "Please verify your address: an e-mail with a link is on its way",
        }

    async def _alone(self, body: Loaded) -> Profile:
        """Register, or share the outcome of the address's registration under way: a hash costs a quarter second."""
        registering, email = self.accounts.registering, body["email"]
        while (other := registering.get(email)) is not None:
            await asyncio.wait({other})
            failure = other.exception()
            if failure is None:
                raise Conflict(EMAIL_TAKEN)
            if isinstance(failure, (Conflict, Unavailable)):
                raise copy.copy(failure)
        registering[email] = outcome = asyncio.get_running_loop().create_future()
        try:
            profile = await self._register(body)
        except BaseException as error:
            outcome.set_exception(error if isinstance(error, Exception) else Unavailable())
            outcome.exception()  # retrieved, even if no request waits for it
            raise
        else:
            outcome.set_result(None)
            return profile
        finally:
            del registering[email]

    async def _register(self, body: Loaded) -> Profile:
        email = body["email"]
        async with connection(self.services.pool) as conn:
            if await accounts.taken_emails(conn, [email]):
                raise Conflict(EMAIL_TAKEN)
            referrer_id = await self._find_referrer(conn, body["referral_code"])
            code = await free_code(conn)
        password_hash = await self.hash_password(body["password"])
        account = AccountRow(uuid7(), email, False, password_hash, body["display_name"], None, None, code, now())
        return await self.ask_account(account.id, Register(account, uuid7(), referrer_id))

    async def _find_referrer(self, conn: Connection, code: str | None) -> UUID | None:
        if code is None:
            return None
        found = await referrals.find_owner(conn, code.strip())
        if found is None:
            raise ValidationFailed.of("referral_code", "is unknown")
        # One more would never count; the registration is accepted all the same.
        return found if await achievements.count_qualified(conn, found) < REFERRALS else None


class EmailVerification(AccountHandler):
    """`/auth/verify-email`"""

    @endpoint("Follow the link of the verification e-mail", query=TokenQuery(), status=302, errors=(400,))
    async def get(self, query: Loaded) -> None:
        """Sends the browser on to the page that posts the token, and verifies nothing: mail scanners open links.

        The token is in the fragment, which no server sees and no page passes on.
        """
        if not query["token"]:
            raise InvalidQuery.of("token", BAD_TOKEN)
        frontend = self.gateway.settings.frontend_url.rstrip("/")
        self.redirect(f"{frontend}/verify-email#token={quote(query['token'], safe='')}")

    @endpoint("Verify an e-mail address", body=TokenBody(), responds=Said(), errors=(503,))
    async def post(self, body: Loaded) -> object:
        """Called by the page that takes the token out of the link. Repeating it has the same result."""
        link = token_hash(body["token"])
        user_id, is_done = await self._find(link)
        if not is_done:
            try:
                await self.ask_account(user_id, VerifyEmail(link))
            except ValidationFailed:  # another request has used the link just now
                await self._find(link)
        return {"message": "The e-mail address is verified"}

    async def _find(self, link: bytes) -> tuple[UUID, bool]:
        found = await self.load(tokens.find_verification, link)
        if found is None:
            raise ValidationFailed.of("token", BAD_TOKEN)
        return found


class VerificationEmails(AccountHandler):
    """`/auth/resend-verification`"""

    @endpoint("Send the verification e-mail again", body=AddressBody(), responds=Said(), errors=(503,))
    async def post(self, body: Loaded) -> object:
        """The answer and the work are the same, whether or not the address has an account."""
        email = body["email"]
        await self.ask_users(address_key(email), RequestEmail(uuid7(), "verification", now()))
        return {"message": CHECK_YOUR_MAIL}


async def free_code(conn: Connection) -> str:
    """Return a referral code that is not in use. Raises Unavailable."""
    candidates = ["".join(secrets.choice(CODE_ALPHABET) for _ in range(CODE_CHARACTERS)) for _ in range(CANDIDATES)]
    found = await referrals.free_codes(conn, candidates)
    if not found:
        raise Unavailable("No referral code is free")
    return found[0]
