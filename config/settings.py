"""Every setting of the system: one declaration, read from the environment or a `.env` file, validated at start.

`Settings.load()` reports everything that is wrong at once. Nothing else in the project reads the environment.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import environs
from marshmallow.validate import Length, OneOf, Range, Regexp, Validator

from config._variables import Network, default_value, dump_variable, read_variable
from config.model_sdks import missing_extra

MODELS = ("chatgpt", "gemini", "claude", "deepseek", "technical")
MODEL_KEYS = {
    "chatgpt": "openai_api_key",
    "gemini": "google_api_key",
    "claude": "anthropic_api_key",
    "deepseek": "deepseek_api_key",
}

DEVELOPMENT_JWT_SECRET = "development-only-secret-that-signs-nothing-of-value"  # noqa: S105
MINIMUM_SECRET_BYTES = 32  # RFC 7518 § 3.2: an HS256 key is at least as long as the hash


class ConfigurationError(Exception):
    """The configuration cannot be used. `problems` lists every fault, one line each."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


def _setting(
    name: str,
    parse: str,
    default: Any,
    *,
    check: Validator | None = None,
    secret: bool = False,
    help: str = "",  # noqa: A002
) -> Any:
    metadata = {"name": name, "parse": parse, "default": default, "check": check, "secret": secret, "help": help}
    return field(metadata=metadata, repr=not secret)


_POSITIVE = Range(min=0, min_inclusive=False)
_COUNT = Range(min=1)
_URL = Regexp(r"^https?://[^/]", error="a URL that begins with http:// or https://")
_SENDER = Regexp(r"^[^\r\n]+@[^\r\n]+$", error="a sender, as in TradeStream <no-reply@tradestream.io>")
_NAME = Length(min=1, max=200)
_HOST_NAME = re.compile(r"\.?[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")
_NETWORKS = "127.0.0.0/8,::1/128,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,fc00::/7"
_ORIGINS = "https://tradestream.io,https://www.tradestream.io,http://localhost:3000"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The validated configuration. Field order is the order of `example.env`; secrets are left out of `repr`."""

    # The server
    environment: str = _setting(
        "ENVIRONMENT",
        "str",
        "development",
        check=OneOf(("development", "production")),
        help="production refuses embedded services and weak secrets",
    )
    host: str = _setting("HOST", "str", "127.0.0.1", check=Length(min=1), help="address the gateways listen on")
    port: int = _setting("PORT", "int", 8000, check=Range(min=1, max=65535), help="port all gateways share")
    workers: int = _setting("WORKERS", "int", 1, check=Range(min=1, max=64), help="gateway processes on this machine")
    data_dir: Path = _setting(
        "DATA_DIR", "path", Path(".data"), help="embedded servers, Ray's files and the mail folder"
    )
    log_format: str = _setting("LOG_FORMAT", "str", "text", check=OneOf(("text", "json")))
    log_level: str = _setting("LOG_LEVEL", "str", "INFO", check=OneOf(("DEBUG", "INFO", "WARNING", "ERROR")))
    drain_seconds: float = _setting(
        "DRAIN_SECONDS",
        "float",
        10.0,
        check=Range(min=0, max=600),
        help="time in which open requests and streams are ended on SIGTERM",
    )

    # The services behind it
    database_url: str | None = _setting(
        "DATABASE_URL", "optional", None, secret=True, help="unset: an embedded PostgreSQL under DATA_DIR"
    )
    database_pool_size: int = _setting(
        "DATABASE_POOL_SIZE", "int", 10, check=Range(min=1, max=1000), help="connections per gateway process"
    )
    redis_url: str | None = _setting(
        "REDIS_URL", "optional", None, secret=True, help="unset: an embedded Valkey under DATA_DIR"
    )
    ray_address: str | None = _setting("RAY_ADDRESS", "optional", None, help="unset: a local Ray")
    ray_dashboard_port: int = _setting(
        "RAY_DASHBOARD_PORT",
        "int",
        8265,
        check=Range(min=0, max=65535),
        help="0 starts the local Ray without its dashboard",
    )
    kafka_bootstrap_servers: str | None = _setting(
        "KAFKA_BOOTSTRAP_SERVERS", "optional", None, help="host:port, host:port: reads the topic scored-signals"
    )
    kafka_group: str = _setting(
        "KAFKA_GROUP",
        "str",
        "tradestream",
        check=_NAME,
        help="under which offsets are committed: one for each deployment that reads the topic",
    )
    mongo_url: str | None = _setting(
        "MONGO_URL", "optional", None, secret=True, help="unset: the Lens archive lives in Postgres"
    )

    # Accounts
    jwt_secret: str = _setting("JWT_SECRET", "str", DEVELOPMENT_JWT_SECRET, secret=True)
    jwt_algorithm: str = _setting("JWT_ALGORITHM", "str", "HS256", check=OneOf(("HS256", "HS384", "HS512")))
    password_pepper: str = _setting("PASSWORD_PEPPER", "str", "tradestream.password.v1", secret=True)
    google_client_id: str | None = _setting("GOOGLE_CLIENT_ID", "optional", None)
    google_client_secret: str | None = _setting("GOOGLE_CLIENT_SECRET", "optional", None, secret=True)
    github_client_id: str | None = _setting("GITHUB_CLIENT_ID", "optional", None)
    github_client_secret: str | None = _setting("GITHUB_CLIENT_SECRET", "optional", None, secret=True)
    google_authorize_url: str = _setting(
        "GOOGLE_AUTHORIZE_URL", "str", "https://accounts.google.com/o/oauth2/v2/auth", check=_URL
    )
    google_token_url: str = _setting("GOOGLE_TOKEN_URL", "str", "https://oauth2.googleapis.com/token", check=_URL)
    google_userinfo_url: str = _setting(
        "GOOGLE_USERINFO_URL", "str", "https://openidconnect.googleapis.com/v1/userinfo", check=_URL
    )
    github_authorize_url: str = _setting(
        "GITHUB_AUTHORIZE_URL", "str", "https://github.com/login/oauth/authorize", check=_URL
    )
    github_token_url: str = _setting(
        "GITHUB_TOKEN_URL", "str", "https://github.com/login/oauth/access_token", check=_URL
    )
    github_api_url: str = _setting("GITHUB_API_URL", "str", "https://api.github.com", check=_URL)
    resend_api_key: str | None = _setting(
        "RESEND_API_KEY", "optional", None, secret=True, help="unset: mail is written to the Maildir DATA_DIR/mail"
    )
    resend_base_url: str = _setting("RESEND_BASE_URL", "str", "https://api.resend.com", check=_URL)
    mail_from: str = _setting("MAIL_FROM", "str", "TradeStream <no-reply@tradestream.io>", check=_SENDER)
    api_url: str = _setting(
        "API_URL",
        "str",
        "http://127.0.0.1:8000",
        check=_URL,
        help="where clients reach this server: links in letters, OAuth callbacks; unset: 127.0.0.1 and PORT",
    )
    frontend_url: str = _setting(
        "FRONTEND_URL", "str", "http://localhost:3000", check=_URL, help="where browsers are sent on to"
    )
    cors_origins: tuple[str, ...] = _setting("CORS_ORIGINS", "names", _ORIGINS)

    # Limits and the network
    rate_limit_per_minute: int = _setting("RATE_LIMIT_PER_MINUTE", "int", 60, check=_COUNT)
    rate_limit_enabled: bool = _setting("RATE_LIMIT_ENABLED", "bool", True)
    rate_limits: tuple[tuple[str, int], ...] = _setting(
        "RATE_LIMITS",
        "limits",
        "",
        help="other numbers for single routes, as in `POST /auth/login=20,GET /api/signals=300`; "
        "`GET /api/signals/stream resumed=300` is for streams that go on after an event",
    )
    trusted_proxies: tuple[Network, ...] = _setting("TRUSTED_PROXIES", "networks", "")
    internal_networks: tuple[Network, ...] = _setting("INTERNAL_NETWORKS", "networks", _NETWORKS)
    allowed_hosts: tuple[str, ...] = _setting(
        "ALLOWED_HOSTS",
        "names",
        "",
        help="names beyond API_URL's for /api/v1, /metrics and WebSockets; .example.com is all under it",
    )

    # Streams
    heartbeat_seconds: float = _setting("HEARTBEAT_SECONDS", "float", 15.0, check=_POSITIVE)
    stream_max_seconds: float = _setting("STREAM_MAX_SECONDS", "float", 3600.0, check=_POSITIVE)
    stream_buffer_bytes: int = _setting("STREAM_BUFFER_BYTES", "int", 1 << 20, check=_COUNT)
    max_streams: int = _setting("MAX_STREAMS", "int", 20_000, check=_COUNT, help="open streams per gateway process")
    ws_max_connections: int = _setting(
        "WS_MAX_CONNECTIONS", "int", 100, check=_COUNT, help="open Lens sockets per gateway process"
    )

    # Lens
    market_data: str | None = _setting(
        "MARKET_DATA",
        "optional",
        None,
        check=OneOf(("simulated", "hyperliquid")),
        help="default: simulated in development, hyperliquid in production",
    )
    hyperliquid_base_url: str = _setting("HYPERLIQUID_BASE_URL", "str", "https://api.hyperliquid.xyz", check=_URL)
    lens_models: tuple[str, ...] = _setting(
        "LENS_MODELS", "names", "", help="default: every model whose key is set, technical when none is"
    )
    lens_feature_profile: str = _setting(
        "LENS_FEATURE_PROFILE", "str", "trend_follow_v1", check=OneOf(("trend_follow_v1", "crypto_perps_v1", "full_v1"))
    )
    lens_retries: int = _setting("LENS_RETRIES", "int", 3, check=Range(min=0, max=20))
    lens_retry_base_seconds: float = _setting("LENS_RETRY_BASE_SECONDS", "float", 1.0, check=_POSITIVE)
    lens_retry_max_seconds: float = _setting("LENS_RETRY_MAX_SECONDS", "float", 30.0, check=_POSITIVE)
    lens_reject_age_seconds: float | None = _setting("LENS_REJECT_AGE_SECONDS", "optional_float", None, check=_POSITIVE)
    lens_reject_drift_bps: float | None = _setting("LENS_REJECT_DRIFT_BPS", "optional_float", None, check=_POSITIVE)
    lens_archive_days: int = _setting("LENS_ARCHIVE_DAYS", "int", 180, check=_COUNT)
    openai_api_key: str | None = _setting("OPENAI_API_KEY", "optional", None, secret=True)
    google_api_key: str | None = _setting("GOOGLE_API_KEY", "optional", None, secret=True)
    anthropic_api_key: str | None = _setting("ANTHROPIC_API_KEY", "optional", None, secret=True)
    deepseek_api_key: str | None = _setting("DEEPSEEK_API_KEY", "optional", None, secret=True)
    openai_base_url: str = _setting("OPENAI_BASE_URL", "str", "https://api.openai.com/v1", check=_URL)
    google_base_url: str = _setting("GOOGLE_BASE_URL", "str", "https://generativelanguage.googleapis.com", check=_URL)
    anthropic_base_url: str = _setting("ANTHROPIC_BASE_URL", "str", "https://api.anthropic.com", check=_URL)
    deepseek_base_url: str = _setting("DEEPSEEK_BASE_URL", "str", "https://api.deepseek.com", check=_URL)
    openai_model: str = _setting("OPENAI_MODEL", "str", "gpt-4o", check=_NAME, help="the id of `chatgpt`")
    google_model: str = _setting(
        "GOOGLE_MODEL",
        "str",
        "gemini-3.5-flash-lite",
        check=_NAME,
        help="the id of `gemini`; one that thinks longer needs more LENS_MODEL_MAX_TOKENS",
    )
    anthropic_model: str = _setting(
        "ANTHROPIC_MODEL",
        "str",
        "claude-sonnet-5-5",
        check=_NAME,
        help="the id of `claude`; one that always thinks needs more LENS_MODEL_MAX_TOKENS",
    )
    deepseek_model: str = _setting("DEEPSEEK_MODEL", "str", "deepseek-flash", check=_NAME, help="the id of `deepseek`")
    lens_model_timeout_seconds: float = _setting(
        "LENS_MODEL_TIMEOUT_SECONDS",
        "float",
        30.0,
        check=Range(min=0, min_inclusive=False, max=100),  # the evaluate stage gives up on an attempt after 120 s
        help="for one answer, the wait for one of LENS_MODEL_CONCURRENCY calls included",
    )
    lens_model_temperature: float | None = _setting(
        "LENS_MODEL_TEMPERATURE",
        "optional_float",
        0.1,
        check=Range(min=0, max=2),
        help="of chatgpt and deepseek (the others take none); empty: the vendor's default, for ids that refuse it",
    )
    lens_model_max_tokens: int = _setting(
        "LENS_MODEL_MAX_TOKENS", "int", 1000, check=Range(min=100, max=100_000), help="of one answer"
    )
    lens_model_concurrency: int = _setting(
        "LENS_MODEL_CONCURRENCY", "int", 32, check=Range(min=1, max=1000), help="calls of one model at once"
    )

    @classmethod
    def load(cls, env_file: Path | None = Path(".env")) -> Settings:
        """Read the environment, and under it `env_file`; validate all of it, or raise `ConfigurationError`."""
        env = environs.Env()
        if env_file is not None and env_file.is_file():
            env.read_env(env_file, recurse=False)
        values, problems = {}, []
        for each in dataclasses.fields(cls):
            values[each.name] = default_value(each.metadata)
            text = env.str(each.metadata["name"], None)
            if text is None:
                continue
            try:
                values[each.name] = read_variable(text, each.metadata)
            except ValueError as error:
                problems.append(f"{each.metadata['name']}: {error}")
        if env.str("API_URL", None) is None:
            values["api_url"] = f"http://127.0.0.1:{values['port']}"
        settings = cls(**values)
        # What is no value at all has its default here, of which nothing more is said.
        faulty = {problem.partition(":")[0] for problem in problems}
        problems += [each for each in settings._contradictions() if each.partition(":")[0] not in faulty]
        if problems:
            raise ConfigurationError(problems)
        return settings

    @property
    def is_production(self) -> bool:
        """Whether this is a production server."""
        return self.environment == "production"

    @property
    def market_data_source(self) -> str:
        """`simulated` or `hyperliquid`: the setting, or its default by environment."""
        return self.market_data or ("hyperliquid" if self.is_production else "simulated")

    @property
    def active_models(self) -> tuple[str, ...]:
        """The models that judge each signal, in the vocabulary's order."""
        if self.lens_models:
            return tuple(name for name in MODELS if name in self.lens_models)
        with_key = tuple(name for name, key in MODEL_KEYS.items() if getattr(self, key))
        return with_key or ("technical",)

    def replace(self, **changes: Any) -> Settings:
        """A copy with some values changed."""
        return dataclasses.replace(self, **changes)

    def to_environment(self) -> dict[str, str]:
        """The settings as environment variables, for a child process; unset ones are empty strings."""
        return {each.metadata["name"]: dump_variable(getattr(self, each.name)) for each in dataclasses.fields(self)}

    def _contradictions(self) -> list[str]:
        problems = [
            f"LENS_MODELS: unknown model {name!r}; known are {', '.join(MODELS)}"
            for name in self.lens_models
            if name not in MODELS
        ]
        problems += [
            f"LENS_MODELS: {name} needs {MODEL_KEYS[name].upper()}"
            for name in self.lens_models
            if name in MODEL_KEYS and not getattr(self, MODEL_KEYS[name])
        ]
        problems += [problem for name in self.active_models if (problem := missing_extra(name)) is not None]
        if self.kafka_bootstrap_servers and find_spec("aiokafka") is None:
            problems.append("KAFKA_BOOTSTRAP_SERVERS: needs a driver: pip install '.[kafka]'")
        problems += [
            f"CORS_ORIGINS: {origin!r} is not an origin" for origin in self.cors_origins if not _is_origin(origin)
        ]
        problems += [
            f"ALLOWED_HOSTS: {name!r} is not the name of a host (nor .name, for all under it)"
            for name in self.allowed_hosts
            if _HOST_NAME.fullmatch(name) is None
        ]
        if self.is_production:
            problems += self._production_problems()
        return problems

    def _production_problems(self) -> list[str]:
        problems = []
        if self.database_url is None:
            problems.append("DATABASE_URL: production does not run on the embedded PostgreSQL")
        if self.redis_url is None:
            problems.append("REDIS_URL: production does not run on the embedded Valkey")
        if self.market_data_source == "simulated":
            problems.append("MARKET_DATA: production does not run on simulated market data")
        if self.jwt_secret == DEVELOPMENT_JWT_SECRET:
            problems.append("JWT_SECRET: production needs a secret of its own")
        elif len(self.jwt_secret.encode()) < MINIMUM_SECRET_BYTES:
            problems.append(f"JWT_SECRET: shorter than {MINIMUM_SECRET_BYTES} bytes")
        return problems


def describe_settings() -> list[tuple[str, str, str]]:
    """Name, default and meaning of every setting, in order: what `example.env` and the README are checked against."""
    return [
        (each.metadata["name"], dump_variable(each.metadata["default"]), each.metadata["help"])
        for each in dataclasses.fields(Settings)
    ]


def _is_origin(text: str) -> bool:
    parts = urlsplit(text)
    return parts.scheme in {"http", "https"} and bool(parts.netloc) and not (parts.path or parts.query)
