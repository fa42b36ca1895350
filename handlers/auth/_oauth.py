"""Talk to OAuth providers: where to send users, and whom they identify. PKCE (RFC 7636), and a state for each login."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import orjson
from tornado.httpclient import AsyncHTTPClient, HTTPError, HTTPRequest

from config.clock import now
from config.keys import derive_key, derive_token, encode_token
from config.settings import Settings
from schemas._names import visible, without_idle_characters
from schemas._people import (
    NAME_CHARACTERS,
    is_email,
    is_https_url,
    is_plain_text,
    normalise_email,
    normalise_text,
)

STATE_LIFETIME = timedelta(minutes=10)
TIMEOUT_SECONDS = 10.0
ANSWER_BYTES = 1 << 20
SUBJECT_CHARACTERS = 255  # OpenID Connect Core § 2


class ProviderFailed(Exception):
    """The provider does not answer, or answers with something invalid."""


@dataclass(frozen=True, slots=True)
class OAuthProvider:
    """A configured provider. `user_url` is a userinfo endpoint, or for GitHub the base of its API."""

    name: str
    client_id: str
    client_secret: str
    authorize_url: str
    token_url: str
    user_url: str
    scope: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OAuthUser:
    """The user who signed in. `email` is normalised; None unless the provider has verified it."""

    provider: str
    subject: str
    email: str | None
    display_name: str
    avatar_url: str | None


def configured_providers(settings: Settings) -> dict[str, OAuthProvider]:
    """Return the providers for which a client is configured, by name."""
    found = {}
    if settings.google_client_id and settings.google_client_secret:
        found["google"] = OAuthProvider(
            "google",
            settings.google_client_id,
            settings.google_client_secret,
            settings.google_authorize_url,
            settings.google_token_url,
            settings.google_userinfo_url,
            ("openid", "email", "profile"),
        )
    if settings.github_client_id and settings.github_client_secret:
        found["github"] = OAuthProvider(
            "github",
            settings.github_client_id,
            settings.github_client_secret,
            settings.github_authorize_url,
            settings.github_token_url,
            settings.github_api_url.rstrip("/"),
            ("read:user", "user:email"),
        )
    return found


class States:
    """Issues and checks states. A state is bound to the browser that began the login by a cookie that we signed."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def begin(self, provider: str) -> tuple[str, str]:
        """Return a new state, and the cookie that it is bound to."""
        state = encode_token(secrets.token_bytes(32))
        expires = int((now() + STATE_LIFETIME).timestamp())
        signed = f"{provider}.{state}.{expires}"
        return state, f"{signed}.{self._sign(signed)}"

    def check(self, provider: str, state: str | None, cookie: str | None) -> datetime | None:
        """Return when the state expires; None for one that this browser did not begin here recently."""
        if not state or not cookie:
            return None
        signed, _, signature = cookie.rpartition(".")
        if not hmac.compare_digest(signature.encode(), self._sign(signed).encode()):
            return None
        bound_provider, bound_state, expires = signed.split(".")
        if bound_provider != provider or not hmac.compare_digest(bound_state.encode(), state.encode()):
            return None
        expires_at = datetime.fromtimestamp(int(expires), UTC)
        return expires_at if expires_at > now() else None

    def verifier(self, state: str) -> str:
        """Return the PKCE code verifier: only we can derive it from the state, so it need not be stored."""
        return derive_token(self._key, b"pkce " + state.encode())

    def _sign(self, text: str) -> str:
        return derive_token(self._key, b"state " + text.encode())


def code_challenge(verifier: str) -> str:
    """Return the code challenge, S256 of RFC 7636 § 4.2."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


class OAuthClient:
    """The client of the configured providers."""

    def __init__(self, settings: Settings) -> None:
        self.providers = configured_providers(settings)
        self.states = States(derive_key(settings.jwt_secret, "oauth"))
        self._callback = settings.api_url.rstrip("/") + "/auth/oauth/{}/callback"
        self._http = AsyncHTTPClient(force_instance=True, defaults={"user_agent": "TradeStream"})

    def callback_url(self, provider: OAuthProvider) -> str:
        """Return the URL to which the provider sends users back; it must be registered there."""
        return self._callback.format(provider.name)

    async def identify(self, provider: OAuthProvider, code: str, state: str) -> OAuthUser:
        """Return the user that the code stands for. Raises ProviderFailed."""
        token = await self._exchange(provider, code, self.states.verifier(state))
        if provider.name == "github":
            user = await self._get(provider.user_url + "/user", token)
            return github_user(user, await self._get(provider.user_url + "/user/emails", token))
        return openid_user(provider.name, await self._get(provider.user_url, token))

    def close(self) -> None:
        """Abandon the requests under way."""
        self._http.close()

    async def _exchange(self, provider: OAuthProvider, code: str, verifier: str) -> str:
        answer = await self._fetch(
            HTTPRequest(
                provider.token_url,
                method="POST",
                headers={"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"},
                body=urlencode(
                    {
                        "grant_type": "authorization_code",
                        "code": code,
                        "redirect_uri": self.callback_url(provider),
                        "client_id": provider.client_id,
                        "client_secret": provider.client_secret,
                        "code_verifier": verifier,
                    }
                ),
            )
        )
        token = answer.get("access_token") if isinstance(answer, Mapping) else None
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            # GitHub says "bad code" with a 200.
            raise ProviderFailed("there is no access token in the answer")
        return token

    async def _get(self, url: str, token: str) -> object:
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        return await self._fetch(HTTPRequest(url, headers=headers))

    async def _fetch(self, request: HTTPRequest) -> object:
        request.connect_timeout = request.request_timeout = TIMEOUT_SECONDS
        request.follow_redirects = False
        try:
            response = await self._http.fetch(request)
            answer: object = orjson.loads(response.body[:ANSWER_BYTES])
            return answer
        except HTTPError as error:
            raise ProviderFailed(f"{request.url} answers {error.code}") from None
        except (OSError, ValueError) as error:
            raise ProviderFailed(f"{request.url}: {type(error).__name__}") from None


def openid_user(provider: str, claims: object) -> OAuthUser:
    """Return the user of OpenID Connect's standard claims. Raises ProviderFailed."""
    if not isinstance(claims, Mapping):
        raise ProviderFailed("the userinfo is no object")
    verified = claims.get("email_verified")
    # Some providers write booleans as text. Nothing else is true: to Python, 1 equals True.
    email = claims.get("email") if verified is True or (isinstance(verified, str) and verified == "true") else None
    return _user(provider, claims.get("sub"), email, claims.get("name"), claims.get("picture"))


def github_user(user: object, emails: object) -> OAuthUser:
    """Return the user of GitHub's `/user` and `/user/emails`. Raises ProviderFailed."""
    # To Python, true is the number 1: all users reported so would share one account.
    if not isinstance(user, Mapping) or type(user.get("id")) is not int:
        raise ProviderFailed("the user has no id")
    listed = emails if isinstance(emails, list) else []
    usable = [
        each for each in listed if isinstance(each, Mapping) and each.get("verified") is True and each.get("email")
    ]
    usable.sort(key=lambda each: each.get("primary") is not True)
    email = usable[0]["email"] if usable else None
    return _user("github", str(user["id"]), email, user.get("name") or user.get("login"), user.get("avatar_url"))


def _user(provider: str, subject: object, email: object, name: object, picture: object) -> OAuthUser:
    if not isinstance(subject, str) or not 1 <= len(subject) <= SUBJECT_CHARACTERS or not is_plain_text(subject):
        raise ProviderFailed("the user has no id")
    address = normalise_email(email) if isinstance(email, str) else ""
    address = address if is_email(address) else ""
    return OAuthUser(
        provider,
        subject,
        address or None,
        _display_name(name, address),
        picture if isinstance(picture, str) and is_https_url(picture) else None,
    )


def _display_name(name: object, address: str) -> str:
    least, most = NAME_CHARACTERS
    for candidate in (name if isinstance(name, str) else "", address.partition("@")[0]):
        known = "".join(each for each in normalise_text(candidate) if unicodedata.category(each) != "Cn")
        text = " ".join(without_idle_characters(known).split())[:most].strip()
        if len(visible(text)) >= least:
            return text
    return "Trader"
