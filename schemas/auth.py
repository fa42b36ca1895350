"""Schemas of authentication: requests and responses of `/auth/*`."""

from __future__ import annotations

from marshmallow import ValidationError, validates_schema

from config.documents import Loaded
from schemas._fields import Choice, ConvertedText, Flag, Identifier, Nested, Schema, Text, Timestamp, Whole, about
from schemas._passwords import LONGEST, SHORTEST, password_problem
from schemas._people import AnyEmail, DisplayName, EmailAddress, HttpsUrl, Prose, normalise_text
from schemas._queries import QueryFlag, QuerySchema

_PASSWORD = about(f"{SHORTEST}-{LONGEST} characters of any kind; not a common one, not the e-mail.")
_VERIFICATION = about("From the link in the mail. Once the address is verified, a used one is as good as before.")


class NewPassword(ConvertedText):
    """A password to be set. Whether it is the e-mail is the schema's, or the handler's, to check."""

    def convert(self, text: str) -> str:
        password = normalise_text(text)
        problem = password_problem(password)
        if problem is not None:
            raise ValidationError(problem)
        return password


def given_password() -> Text:
    """Make the field of a password to be checked: one that could not have been set is just a wrong one."""
    return Text(min=1, max=1024, required=True)


class Registration(Schema):
    """A new account."""

    email = EmailAddress(required=True, metadata={"examples": ["trader@example.com"]})
    password = NewPassword(required=True, **_PASSWORD)
    display_name = DisplayName(required=True, **about("2-50 characters.", examples=["Trader"]))
    referral_code = Text(min=1, max=20, load_default=None, allow_none=True, metadata={"examples": ["KING42"]})

    @validates_schema(skip_on_field_errors=False)
    def check_together(self, data: Loaded, **_: object) -> None:
        """Check that the password is not the e-mail, where both are valid by themselves."""
        if "password" in data and "email" in data:
            problem = password_problem(data["password"], data["email"])
            if problem is not None:
                raise ValidationError(problem, "password")


class Registered(Schema):
    """The new account, whose address has to be verified."""

    user_id = Identifier(required=True)
    email = Text(required=True)
    display_name = Text(required=True)
    email_verified = Flag(required=True)
    message = Text(required=True)


class Login(Schema):
    """The credentials of a login."""

    email = AnyEmail(required=True, metadata={"examples": ["trader@example.com"]})
    password = given_password()


class SignedInUser(Schema):
    """The owner of an access token."""

    user_id = Identifier(required=True)
    email = Text(required=True)
    display_name = Text(required=True)
    avatar_url = Text(required=True, allow_none=True)
    email_verified = Flag(required=True)
    is_provider = Flag(required=True)


class AccessGranted(Schema):
    """An access token. `user` is null for a demo token. `expires_in` is in seconds."""

    access_token = Text(required=True)
    token_type = Choice(("Bearer",), required=True)
    expires_in = Whole(required=True)
    is_demo = Flag(required=True)
    user = Nested(SignedInUser, required=True, allow_none=True)


class Said(Schema):
    """A confirmation that the request is done."""

    message = Text(required=True)


class LogoutQuery(QuerySchema):
    """The sessions to end."""

    all = QueryFlag(load_default=False, **about("Every session of the user, not only this one."))


class TokenQuery(QuerySchema):
    """The link in the mail. A missing token is refused; whether it is valid is checked when it is posted."""

    token = Text(load_default="", max=200, **_VERIFICATION)


class TokenBody(Schema):
    """The token of the link in the mail."""

    token = Text(min=1, max=200, required=True, **_VERIFICATION)


class AddressBody(Schema):
    """The address to write to."""

    email = AnyEmail(required=True)


class PasswordReset(Schema):
    """A new password, set by the token in an e-mail."""

    token = Text(min=1, max=200, required=True, **about("From the link in the mail. It is good once."))
    new_password = NewPassword(required=True, **_PASSWORD)


class PasswordChange(Schema):
    """A new password, set by means of the present one."""

    current_password = given_password()
    new_password = NewPassword(required=True, **_PASSWORD)


class Me(Schema):
    """The caller's own account."""

    user_id = Identifier(required=True)
    email = Text(required=True)
    display_name = Text(required=True)
    avatar_url = Text(required=True, allow_none=True)
    bio = Text(required=True, allow_none=True)
    email_verified = Flag(required=True)
    is_provider = Flag(required=True)
    created_at = Timestamp(required=True)


class ProfileChange(Schema):
    """Fields that are given are set; null removes one."""

    display_name = DisplayName(**about("2-50 characters."))
    avatar_url = HttpsUrl(allow_none=True)
    bio = Prose(max=500, allow_none=True)


class SessionItem(Schema):
    """A login that is live. `last_used_at` is that of its refresh token."""

    id = Identifier(required=True)
    created_at = Timestamp(required=True)
    last_used_at = Timestamp(required=True)
    user_agent = Text(required=True, allow_none=True)
    ip = Text(required=True)
    current = Flag(required=True, **about("Whether this request's token belongs to it."))


class Sessions(Schema):
    """The caller's sessions, the one used last first."""

    sessions = Nested(SessionItem, many=True, required=True)


class SessionEnded(Schema):
    """A session that has ended."""

    id = Identifier(required=True)
    revoked = Flag(required=True)


class CallbackQuery(QuerySchema):
    """The query that an OAuth provider sends back."""

    code = Text(load_default=None)
    state = Text(load_default=None)
    error = Text(load_default=None)
