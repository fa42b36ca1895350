"""Sign in through an OAuth provider: the redirect to it, and the callback."""

from __future__ import annotations

import logging
from urllib.parse import urlencode

from tornado.auth import OAuth2Mixin

from actors.users.messages import LinkIdentity, Register
from config.clock import now
from config.documents import Document, Loaded
from config.ids import uuid7
from config.keys import token_hash
from config.metrics import LOGINS, REGISTRATIONS
from db._postgres import connection, transaction
from db.users import accounts, tokens
from db.users.accounts import AccountRow, PersonRow
from handlers._http.endpoint import endpoint
from handlers.auth._account_handler import AccountHandler
from handlers.auth._oauth import STATE_LIFETIME, OAuthProvider, OAuthUser, ProviderFailed, code_challenge
from handlers.auth.registration import free_code
from schemas.auth import CallbackQuery
from schemas.errors import Conflict, NotFound, Unauthorized, Unavailable

log = logging.getLogger(__name__)

STATE_COOKIE = "oauth_state"
STATE_PATH = "/auth/oauth"
ATTEMPTS = 3  # to find or make the account, while others do the same


class _Refused(Exception):
    """The login ends; the argument is the error code that the frontend gets."""


class OAuthHandler(AccountHandler):
    """The base of the redirect and the callback."""

    def provider_of(self, name: str) -> OAuthProvider:
        """Return the provider. Raises NotFound for one that is unknown or not configured."""
        found = self.accounts.oauth.providers.get(name)
        if found is None:
            raise NotFound("Unknown provider")
        return found


class OAuthStart(OAuthHandler, OAuth2Mixin):
    """`/auth/oauth/{provider}`"""

    @endpoint("Sign in through a provider", status=302, errors=(404,))
    async def get(self, provider: str) -> None:
        """Sends the browser to the provider, with a state that only this browser can bring back."""
        chosen = self.provider_of(provider)
        oauth = self.accounts.oauth
        state, cookie = oauth.states.begin(chosen.name)
        seconds = int(STATE_LIFETIME.total_seconds())
        self.set_cookie(STATE_COOKIE, cookie, path=STATE_PATH, max_age=seconds, **self.cookie_flags)
        self._OAUTH_AUTHORIZE_URL = chosen.authorize_url  # where Tornado's mixin looks for it
        self.authorize_redirect(
            redirect_uri=oauth.callback_url(chosen),
            client_id=chosen.client_id,
            scope=list(chosen.scope),
            extra_params={
                "state": state,
                "code_challenge": code_challenge(oauth.states.verifier(state)),
                "code_challenge_method": "S256",
            },
        )


class OAuthCallback(OAuthHandler):
    """`/auth/oauth/{provider}/callback`"""

    @endpoint(
        "Come back from a provider",
        query=CallbackQuery(),
        status=302,
        errors=(404, 503),
        sets_cookie="Where the login succeeded: a new session's token.",
    )
    async def get(self, provider: str, query: Loaded) -> None:
        """Sends the browser on to the frontend: the result is in the fragment, which no server sees."""
        chosen = self.provider_of(provider)
        try:
            await self._check_state(chosen, query["state"])
            granted = await self._sign_in(await self._identify(chosen, query))
        except _Refused as refusal:
            LOGINS.labels(chosen.name, str(refusal)).inc()
            self._go_on({"error": str(refusal)})
            return
        LOGINS.labels(chosen.name, "granted").inc()
        self._go_on({name: granted[name] for name in ("access_token", "token_type", "expires_in")})

    async def _check_state(self, provider: OAuthProvider, state: str | None) -> None:
        expires_at = self.accounts.oauth.states.check(provider.name, state, self._state_cookie())
        self.clear_cookie(STATE_COOKIE, path=STATE_PATH, **self.cookie_flags)
        if expires_at is None or state is None:
            raise _Refused("invalid_state")
        async with transaction(self.services.pool) as conn:
            if not await tokens.use_state(conn, token_hash(state), expires_at):
                raise _Refused("invalid_state")

    def _state_cookie(self) -> str | None:
        try:
            return self.sole_cookie(STATE_COOKIE)
        except Unauthorized:
            raise _Refused("invalid_state") from None

    async def _identify(self, provider: OAuthProvider, query: Loaded) -> OAuthUser:
        if query["error"] == "access_denied":
            raise _Refused("access_denied")
        if query["error"] is not None or not query["code"]:
            raise _Refused("provider_error")
        try:
            return await self.accounts.oauth.identify(provider, query["code"], query["state"])
        except ProviderFailed as failure:
            log.warning("%s: %s", provider.name, failure)
            raise _Refused("provider_error") from None

    async def _sign_in(self, user: OAuthUser) -> Document:
        for _ in range(ATTEMPTS):
            async with connection(self.services.pool) as conn:
                person = await accounts.find_by_identity(conn, user.provider, user.subject)
                known = None if user.email is None else await accounts.find_by_email(conn, user.email)
            if person is not None:
                return await self.begin_session(person, None)
            if user.email is None:
                raise _Refused("no_verified_email")
            try:
                await self._link(known, user) if known is not None else await self._register(user, user.email)
            except Conflict:
                continue  # another request was faster: look again
        raise Unavailable("This login is being set up; try again")

    async def _link(self, known: PersonRow, user: OAuthUser) -> None:
        message = LinkIdentity(user.provider, user.subject, now(), user.display_name, user.avatar_url)
        ended = await self.ask_account(known.account.id, message)
        self.gateway.revoked.add(ended)

    async def _register(self, user: OAuthUser, email: str) -> None:
        code = await self.load(free_code)
        account = AccountRow(uuid7(), email, True, None, user.display_name, user.avatar_url, None, code, now())
        await self.ask_account(account.id, Register(account, None, None, (user.provider, user.subject)))
        REGISTRATIONS.labels(user.provider, "made").inc()

    def _go_on(self, fragment: Document) -> None:
        # Not self.redirect(), which would resolve the URL against the request's.
        self.set_status(302)
        self.set_header(
            "Location", f"{self.services.settings.frontend_url.rstrip('/')}/auth/callback#{urlencode(fragment)}"
        )
        self.clear_header("Content-Type")
        self.finish()
