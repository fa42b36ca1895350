"""Set another password: by a mailed link, or by knowing the present one."""

from __future__ import annotations

from actors.users.messages import ChangePassword, RequestEmail, ResetPassword, address_key
from config.clock import now
from config.documents import Loaded
from config.ids import uuid7
from config.keys import token_hash
from db.users import tokens
from handlers._http.endpoint import endpoint
from handlers.auth._account_handler import AccountHandler
from handlers.auth.registration import BAD_TOKEN
from schemas._passwords import password_problem
from schemas.auth import AddressBody, PasswordChange, PasswordReset, Said
from schemas.errors import FieldError, ValidationFailed


class ForgottenPasswords(AccountHandler):
    """`/auth/forgot-password`"""

    @endpoint("Ask for an e-mail to reset the password", body=AddressBody(), responds=Said(), errors=(503,))
    async def post(self, body: Loaded) -> object:
        """The answer and the work are the same, whether or not the address has an account."""
        email = body["email"]
        await self.ask_users(address_key(email), RequestEmail(uuid7(), "reset", now()))
        return {"message": "If there is an account with this address, an e-mail is on its way"}


class PasswordResets(AccountHandler):
    """`/auth/reset-password`"""

    @endpoint("Set a password by the link of the e-mail", body=PasswordReset(), responds=Said(), errors=(503,))
    async def post(self, body: Loaded) -> object:
        """Ends every session of the user. A password that is refused leaves the link as it was."""
        link = token_hash(body["token"])
        holder = await self.load(tokens.find_link, link, "reset")
        if holder is None:
            raise ValidationFailed.of("token", BAD_TOKEN)
        problems = new_password_problems(body["new_password"], holder.email)
        if problems:
            raise ValidationFailed(details=problems)
        new_hash = await self.hash_password(body["new_password"])
        self.gateway.revoked.add(await self.ask_account(holder.user_id, ResetPassword(link, new_hash)))
        return {"message": "The password is set; please log in"}


class PasswordChanges(AccountHandler):
    """`/auth/change-password`"""

    @endpoint("Change the password", body=PasswordChange(), responds=Said(), errors=(503,))
    async def post(self, body: Loaded) -> object:
        """Ends every other session of the user."""
        account = (await self.find_caller()).account
        problems = new_password_problems(body["new_password"], account.email)
        if not (await self.check_password(account.email, body["current_password"], account.password_hash)).matches:
            problems.insert(0, FieldError("current_password", "is wrong"))
        if problems:
            raise ValidationFailed(details=problems)
        new_hash = await self.hash_password(body["new_password"])
        ended = await self.ask_account(
            account.id, ChangePassword(account.password_hash, new_hash, self.session_id, now())
        )
        self.gateway.revoked.add(ended)
        return {"message": "The password is changed; your other sessions have ended"}


def new_password_problems(password: str, email: str) -> list[FieldError]:
    """Return what the schema cannot see: a password that is the e-mail."""
    problem = password_problem(password, email)
    return [] if problem is None else [FieldError("new_password", problem)]
