"""Find settings that contradict each other, or that production refuses: all of them at once."""

from __future__ import annotations

import re
import secrets
from importlib.util import find_spec
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from marshmallow import ValidationError

from config._entropy import weakness
from config._market import SOURCE_KEYS
from config._urls import WEB_URL, is_local
from config.model_sdks import MODEL_KEYS, MODELS, missing_extra

if TYPE_CHECKING:
    from config.settings import Settings

# A coin's candles weigh 25 of 1 200 a minute, and a refresh gets three quarters of a shard's part (lens/market).
MOST_HYPERLIQUID_SHARDS = 32

# RFC 7518 § 3.2: a key is at least as long as the hash.
MINIMUM_SECRET_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}
MINIMUM_PEPPER_BYTES = 16
# Until a lasting one replaces it (supervisor/secrets.py), an unset JWT_SECRET is random and of this process alone.
PROCESS_SECRET = secrets.token_urlsafe(64)
PEPPER_LABEL = "tradestream.password.v1"
# The former default, in copies of the old example.env: every reader of it can forge a token.
_PUBLISHED = "development-only-secret-that-signs-nothing-of-value"
_MAKE_ONE = "`openssl rand -base64 48` makes one"
_MAKE_KEY = "`openssl genpkey -algorithm ed25519 -out log.pem` makes one"

_PUBLIC_KEY = re.compile(r"[^\s+]+\+[0-9a-f]{8}\+[A-Za-z0-9+/]{44}")
_WITNESS = re.compile(rf"https?://[^\s/]+\S* +{_PUBLIC_KEY.pattern}")
_HOST_NAME = re.compile(r"\.?[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")


def contradictions(settings: Settings) -> list[str]:
    """Return the faults of settings that are valid each by itself, `NAME: what`."""
    problems = [
        f"LENS_MODELS: unknown model {name!r}; known are {', '.join(MODELS)}"
        for name in settings.lens_models
        if name not in MODELS
    ]
    problems += [
        f"LENS_MODELS: {name} needs {MODEL_KEYS[name].upper()}"
        for name in settings.lens_models
        if name in MODEL_KEYS and not getattr(settings, MODEL_KEYS[name])
    ]
    problems += [problem for name in settings.active_models if (problem := missing_extra(name)) is not None]
    problems += [
        f"MARKET_DATA: {name} needs {key.upper()}"
        for name in dict.fromkeys(settings.market_sources.values())
        for key in SOURCE_KEYS.get(name, ())
        if not getattr(settings, key)
    ]
    problems += _shard_problems(settings)
    if settings.kafka_bootstrap_servers and find_spec("aiokafka") is None:
        problems.append("KAFKA_BOOTSTRAP_SERVERS: needs a driver: pip install '.[kafka]'")
    problems += [
        f"CORS_ORIGINS: {origin!r} is not an origin" for origin in settings.cors_origins if not _is_origin(origin)
    ]
    problems += [
        f"ALLOWED_HOSTS: {name!r} is not the name of a host (nor .name, for all under it)"
        for name in settings.allowed_hosts
        if _HOST_NAME.fullmatch(name) is None
    ]
    problems += [
        f"WITNESSES: {each!r} is not an address and a public key, as in https://witness.example name+id+key"
        for each in settings.witnesses
        if _WITNESS.fullmatch(each) is None
    ]
    problems += [
        f"LOG_FORMER_KEYS: {each!r} is not a public key, as in name+id+key"
        for each in settings.log_former_keys
        if _PUBLIC_KEY.fullmatch(each) is None
    ]
    for vendor in ("GOOGLE", "GITHUB"):
        names = [f"{vendor}_CLIENT_ID", f"{vendor}_CLIENT_SECRET"]
        missing = [name for name in names if not getattr(settings, name.lower())]
        if len(missing) == 1:
            other = next(name for name in names if name not in missing)
            problems.append(f"{missing[0]}: is not set, and {other} is: sign-in needs both, or neither")
    if settings.ray_address is None and settings.port == settings.ray_dashboard_port:
        problems.append(f"RAY_DASHBOARD_PORT: is {settings.port}, and so is PORT")
    if settings.jwt_secret == _PUBLISHED:
        problems.append("JWT_SECRET: is published in old examples; unset, development makes one of its own")
    elif settings.is_production:
        problems += _secret_problems(settings)
    if settings.is_production:
        problems += _production_problems(settings)
    return problems


def _shard_problems(settings: Settings) -> list[str]:
    if settings.lens_shards > settings.lens_model_concurrency and settings.active_models != ("technical",):
        return [f"LENS_SHARDS: {settings.lens_shards} is more than LENS_MODEL_CONCURRENCY, which they share"]
    if settings.lens_shards > MOST_HYPERLIQUID_SHARDS and "hyperliquid" in settings.market_sources.values():
        return [f"LENS_SHARDS: at most {MOST_HYPERLIQUID_SHARDS} can share what hyperliquid allows an address"]
    return []


def _secret_problems(settings: Settings) -> list[str]:
    if settings.jwt_secret == PROCESS_SECRET:
        return [f"JWT_SECRET: production needs a secret of its own; {_MAKE_ONE}"]
    reason = weakness(settings.jwt_secret, least_bytes=MINIMUM_SECRET_BYTES[settings.jwt_algorithm])
    return [f"JWT_SECRET: {reason}; {_MAKE_ONE}"] if reason is not None else []


def _production_problems(settings: Settings) -> list[str]:
    problems = []
    if settings.database_url is None:
        problems.append("DATABASE_URL: production does not run on the embedded PostgreSQL")
    if settings.redis_url is None:
        problems.append("REDIS_URL: production does not run on the embedded Valkey")
    if "simulated" in settings.market_sources.values():
        problems.append("MARKET_DATA: production does not run on simulated market data")
    if settings.password_pepper == PEPPER_LABEL:
        problems.append(f"PASSWORD_PEPPER: production needs one of its own; {_MAKE_ONE}")
    elif (reason := weakness(settings.password_pepper, least_bytes=MINIMUM_PEPPER_BYTES)) is not None:
        problems.append(f"PASSWORD_PEPPER: {reason}; {_MAKE_ONE}")
    if settings.log_key_file is None:
        problems.append(f"LOG_KEY_FILE: production needs a key of its own; {_MAKE_KEY}")
    if settings.resend_api_key is None:
        problems.append("RESEND_API_KEY: without it e-mails stay in a folder; Resend is the only way out so far")
    problems += [
        f"{name.upper()}: {getattr(settings, name)!r} is not https, and the key travels with every call"
        for name in ("alpaca_base_url", "oanda_base_url")
        if urlsplit(getattr(settings, name)).scheme != "https"
    ]
    for name in ("API_URL", "FRONTEND_URL"):
        url = getattr(settings, name.lower())
        if is_local(url):
            problems.append(f"{name}: {url!r} leads to this machine; production needs what its users can reach")
        elif urlsplit(url).scheme != "https":
            problems.append(f"{name}: {url!r} is not https, and production's tokens and cookies must be encrypted")
    problems += [
        f"CORS_ORIGINS: {origin!r} is local: any program on a user's machine could speak for them"
        for origin in settings.cors_origins
        if _is_origin(origin) and is_local(origin)
    ]
    return problems


def _is_origin(text: str) -> bool:
    try:
        WEB_URL(text)
    except ValidationError:
        return False
    parts = urlsplit(text)
    return not (parts.path or parts.query or parts.fragment or "@" in parts.netloc)
