"""Every setting of the system: one declaration, read from the environment or a `.env` file, validated at start.

`Settings.load()` reports everything that is wrong at once. Nothing else in the project reads the environment.
"""

from __future__ import annotations

import dataclasses
import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from marshmallow import ValidationError
from marshmallow.validate import Length, OneOf, Range, Regexp, Validator

from config._entropy import weakness
from config._env_file import environment, put_into_environment, read_env_file, unknown_names
from config._market import market_sources
from config._urls import HostPorts, RedisUrl, Url, is_local
from config._variables import Network, default_value, dump_variable, read_variable
from config.masking import protect
from config.model_sdks import missing_extra

MODELS = ("chatgpt", "gemini", "claude", "deepseek", "technical")
MODEL_KEYS = {
    "chatgpt": "openai_api_key",
    "gemini": "google_api_key",
    "claude": "anthropic_api_key",
    "deepseek": "deepseek_api_key",
}

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
_URL = Url("http", "https", error="a URL that begins with http:// or https://")
_POSTGRES_URL = Url("postgresql", needs_host=False, error="a URL as in postgresql://user:password@host:5432/database")
_MONGO_URL = Regexp(r"^mongodb(\+srv)?://[^\s/]+", error="a URL as in mongodb://host:27017/database")
_RAY_ADDRESS = HostPorts(error="host:port of a running Ray", words=frozenset({"auto"}))
_KAFKA_SERVERS = HostPorts(error="host:port, or several separated by commas", several=True)
_API_KEY = Regexp(r"^[!-~]+$", error="one word of printable ASCII characters")
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
    host: str = _setting(
        "HOST",
        "str",
        "127.0.0.1",
        check=Length(min=1),
        help="address the gateways listen on; with this machine's own, 127.0.0.1, also on ::1: it is localhost",
    )
    port: int = _setting("PORT", "int", 8000, check=Range(min=1, max=65535), help="port all gateways share")
    http_server: str = _setting(
        "HTTP_SERVER",
        "str",
        "llhttp",
        check=OneOf(("llhttp", "tornado")),
        help="which HTTP server carries the application: ours over llhttp, or Tornado's own (docs/adr/0011-http.md)",
    )
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
    drain_delay_seconds: float = _setting(
        "DRAIN_DELAY_SECONDS",
        "float",
        0.0,
        check=Range(min=0, max=600),
        help="goes on serving for so long after SIGTERM, /ready red, while balancers take it out; then drains",
    )

    # The services behind it
    database_url: str | None = _setting(
        "DATABASE_URL",
        "postgres",
        None,
        check=_POSTGRES_URL,
        secret=True,
        help="unset: an embedded PostgreSQL under DATA_DIR",
    )
    database_pool_size: int = _setting(
        "DATABASE_POOL_SIZE", "int", 10, check=Range(min=1, max=1000), help="connections per gateway process"
    )
    redis_url: str | None = _setting(
        "REDIS_URL", "optional", None, check=RedisUrl(), secret=True, help="unset: an embedded Valkey under DATA_DIR"
    )
    ray_address: str | None = _setting(
        "RAY_ADDRESS", "optional", None, check=_RAY_ADDRESS, help="host:port of a running Ray; unset: a local one"
    )
    actor_placement: str = _setting(
        "ACTOR_PLACEMENT",
        "str",
        "together",
        help="which actors share a process: together (one machine), spread (none), or groups (ARCHITECTURE.md)",
    )
    ray_dashboard_port: int = _setting(
        "RAY_DASHBOARD_PORT",
        "int",
        8265,
        check=Range(min=0, max=65535),
        help="0 starts the local Ray without its dashboard",
    )
    kafka_bootstrap_servers: str | None = _setting(
        "KAFKA_BOOTSTRAP_SERVERS",
        "optional",
        None,
        check=_KAFKA_SERVERS,
        help="host:port, host:port: reads the topic scored-signals",
    )
    kafka_group: str = _setting(
        "KAFKA_GROUP",
        "str",
        "tradestream",
        check=_NAME,
        help="under which offsets are committed: one for each deployment that reads the topic",
    )
    mongo_url: str | None = _setting(
        "MONGO_URL",
        "optional",
        None,
        check=_MONGO_URL,
        secret=True,
        help="unset: the Lens archive lives in Postgres",
    )

    # Accounts
    jwt_secret: str = _setting(
        "JWT_SECRET",
        "str",
        "",
        secret=True,
        help="unset in development: made at the first start, in DATA_DIR/jwt.secret; production needs 32 random bytes",
    )
    jwt_algorithm: str = _setting("JWT_ALGORITHM", "str", "HS256", check=OneOf(("HS256", "HS384", "HS512")))
    password_pepper: str = _setting(
        "PASSWORD_PEPPER", "str", PEPPER_LABEL, secret=True, help="production needs one of its own, never changed again"
    )
    google_client_id: str | None = _setting("GOOGLE_CLIENT_ID", "optional", None, check=_API_KEY)
    google_client_secret: str | None = _setting("GOOGLE_CLIENT_SECRET", "optional", None, check=_API_KEY, secret=True)
    github_client_id: str | None = _setting("GITHUB_CLIENT_ID", "optional", None, check=_API_KEY)
    github_client_secret: str | None = _setting("GITHUB_CLIENT_SECRET", "optional", None, check=_API_KEY, secret=True)
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
        "RESEND_API_KEY",
        "optional",
        None,
        check=_API_KEY,
        secret=True,
        help="unset: mail is written to the Maildir DATA_DIR/mail",
    )
    resend_base_url: str = _setting("RESEND_BASE_URL", "str", "https://api.resend.com", check=_URL)
    mail_from: str = _setting("MAIL_FROM", "str", "TradeStream <no-reply@tradestream.io>", check=_SENDER)
    api_url: str = _setting(
        "API_URL",
        "str",
        "http://localhost:8000",
        check=_URL,
        help="where clients reach this server: links in letters, OAuth callbacks; unset: localhost and PORT",
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
        "`GET /api/signals/stream resumed=300` is for streams that go on after an event, "
        "`POST /auth/login wrong=20` for wrong passwords per account in 15 minutes",
    )
    trusted_proxies: tuple[Network, ...] = _setting("TRUSTED_PROXIES", "networks", "")
    internal_networks: tuple[Network, ...] = _setting("INTERNAL_NETWORKS", "networks", _NETWORKS)
    allowed_hosts: tuple[str, ...] = _setting(
        "ALLOWED_HOSTS",
        "names",
        "",
        help="names beyond API_URL's for /api/v1, /metrics and WebSockets; .example.com is all under it",
    )

    idle_seconds: float = _setting(
        "IDLE_SECONDS",
        "float",
        150.0,
        check=_POSITIVE,
        help="after which an idle connection is closed: longer than the proxy in front keeps it, or answers get lost",
    )
    unread_bytes: int = _setting(
        "UNREAD_BYTES",
        "int",
        64 << 10,
        check=_COUNT,
        help="of answers that a client does not take: then nothing more of it is read until it does",
    )
    max_connections: int = _setting(
        "MAX_CONNECTIONS",
        "int",
        20_000,
        check=_COUNT,
        help="open HTTP connections per gateway process; streams and sockets have their own bounds",
    )
    max_connections_per_address: int = _setting(
        "MAX_CONNECTIONS_PER_ADDRESS",
        "int",
        500,
        check=_COUNT,
        help="of those from one address (IPv6: /64); TRUSTED_PROXIES and loopback count in all only",
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
        "market",
        None,
        help="a source (simulated, hyperliquid) for all that it knows, or one for each asset type, as in "
        "crypto:hyperliquid,stock:simulated; a type without one is published without market data; "
        "default: simulated in development, hyperliquid in production",
    )
    hyperliquid_base_url: str = _setting("HYPERLIQUID_BASE_URL", "str", "https://api.hyperliquid.xyz", check=_URL)
    lens_models: tuple[str, ...] = _setting(
        "LENS_MODELS", "names", "", help="default: every model whose key is set, technical when none is"
    )
    lens_feature_profile: str = _setting(
        "LENS_FEATURE_PROFILE", "str", "trend_follow_v1", check=OneOf(("trend_follow_v1", "crypto_perps_v1", "full_v1"))
    )
    lens_shards: int = _setting(
        "LENS_SHARDS",
        "int",
        1,
        check=Range(min=1, max=64),
        help="lanes of the pipeline, each a process of its own by default; a signal's source decides on its lane",
    )
    lens_retries: int = _setting("LENS_RETRIES", "int", 3, check=Range(min=0, max=20))
    lens_retry_base_seconds: float = _setting("LENS_RETRY_BASE_SECONDS", "float", 1.0, check=_POSITIVE)
    lens_retry_max_seconds: float = _setting("LENS_RETRY_MAX_SECONDS", "float", 30.0, check=_POSITIVE)
    lens_reject_age_seconds: float | None = _setting("LENS_REJECT_AGE_SECONDS", "optional_float", None, check=_POSITIVE)
    lens_reject_drift_bps: float | None = _setting("LENS_REJECT_DRIFT_BPS", "optional_float", None, check=_POSITIVE)
    lens_archive_days: int = _setting("LENS_ARCHIVE_DAYS", "int", 180, check=_COUNT)
    openai_api_key: str | None = _setting("OPENAI_API_KEY", "optional", None, check=_API_KEY, secret=True)
    google_api_key: str | None = _setting("GOOGLE_API_KEY", "optional", None, check=_API_KEY, secret=True)
    anthropic_api_key: str | None = _setting("ANTHROPIC_API_KEY", "optional", None, check=_API_KEY, secret=True)
    deepseek_api_key: str | None = _setting("DEEPSEEK_API_KEY", "optional", None, check=_API_KEY, secret=True)
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
    def load(
        cls, env_file: Path | None = Path(".env"), *, checks: Iterable[Callable[[Settings], list[str]]] = ()
    ) -> Settings:
        """Read the environment, and under it `env_file`; validate all of it, or raise `ConfigurationError`.

        `checks` find faults of settings that are valid by themselves, `NAME: what` each; all are reported at once.
        """
        in_file, problems = ({}, []) if env_file is None or env_file.is_dir() else read_env_file(env_file)
        known = [each.metadata["name"] for each in dataclasses.fields(cls)]
        problems += unknown_names(known, in_file, environment())
        given, values = in_file | environment(), {}
        for each in dataclasses.fields(cls):
            values[each.name] = default_value(each.metadata)
            text = given.get(each.metadata["name"])
            if text is None:
                continue
            try:
                values[each.name] = read_variable(text, each.metadata)
            except ValueError as error:
                problems.append(f"{each.metadata['name']}: {error}")
        if "API_URL" not in given:
            values["api_url"] = f"http://localhost:{values['port']}"
        values["jwt_secret"] = values["jwt_secret"] or PROCESS_SECRET
        settings = cls(**values)
        # A setting that has no valid value keeps its default here, and gets no further complaint.
        faulty = {problem.partition(":")[0] for problem in problems}
        for find in (cls._contradictions, *checks):
            problems += [each for each in find(settings) if each.partition(":")[0] not in faulty]
        if problems:
            raise ConfigurationError(problems)
        put_into_environment(in_file)
        return settings

    def __post_init__(self) -> None:
        self.protect_secrets()

    def protect_secrets(self) -> None:
        """Keep the secrets out of this process's logs and error texts; it must be called after unpickling."""
        given = [getattr(self, each.name) for each in dataclasses.fields(self) if each.metadata["secret"]]
        protect(*(value for value in given if value != PEPPER_LABEL))

    @property
    def is_production(self) -> bool:
        """Whether this is a production server."""
        return self.environment == "production"

    @property
    def market_sources(self) -> Mapping[str, str]:
        """Return each asset type's source of market data, if any: the setting's, or its default by environment."""
        return market_sources(self.market_data or ("hyperliquid" if self.is_production else "simulated"))

    @property
    def active_models(self) -> tuple[str, ...]:
        """Return the models that judge each signal, in the vocabulary's order."""
        if self.lens_models:
            return tuple(name for name in MODELS if name in self.lens_models)
        with_key = tuple(name for name, key in MODEL_KEYS.items() if getattr(self, key))
        return with_key or ("technical",)

    def replace(self, **changes: Any) -> Settings:
        """Return a copy with some values changed."""
        return dataclasses.replace(self, **changes)

    def to_environment(self) -> dict[str, str]:
        """Return the settings as environment variables, for a child process; unset ones are empty strings."""
        return {each.metadata["name"]: dump_variable(getattr(self, each.name)) for each in dataclasses.fields(self)}

    def _shard_problems(self) -> list[str]:
        if self.lens_shards > self.lens_model_concurrency and self.active_models != ("technical",):
            return [f"LENS_SHARDS: {self.lens_shards} is more than LENS_MODEL_CONCURRENCY, which they share"]
        if self.lens_shards > MOST_HYPERLIQUID_SHARDS and "hyperliquid" in self.market_sources.values():
            return [f"LENS_SHARDS: at most {MOST_HYPERLIQUID_SHARDS} can share what hyperliquid allows an address"]
        return []

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
        problems += self._shard_problems()
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
        for vendor in ("GOOGLE", "GITHUB"):
            names = [f"{vendor}_CLIENT_ID", f"{vendor}_CLIENT_SECRET"]
            missing = [name for name in names if not getattr(self, name.lower())]
            if len(missing) == 1:
                other = next(name for name in names if name not in missing)
                problems.append(f"{missing[0]}: is not set, and {other} is: sign-in needs both, or neither")
        if self.ray_address is None and self.port == self.ray_dashboard_port:
            problems.append(f"RAY_DASHBOARD_PORT: is {self.port}, and so is PORT")
        if self.jwt_secret == _PUBLISHED:
            problems.append("JWT_SECRET: is published in old examples; unset, development makes one of its own")
        elif self.is_production:
            problems += self._secret_problems()
        if self.is_production:
            problems += self._production_problems()
        return problems

    def _secret_problems(self) -> list[str]:
        if self.jwt_secret == PROCESS_SECRET:
            return [f"JWT_SECRET: production needs a secret of its own; {_MAKE_ONE}"]
        reason = weakness(self.jwt_secret, least_bytes=MINIMUM_SECRET_BYTES[self.jwt_algorithm])
        return [f"JWT_SECRET: {reason}; {_MAKE_ONE}"] if reason is not None else []

    def _production_problems(self) -> list[str]:
        problems = []
        if self.database_url is None:
            problems.append("DATABASE_URL: production does not run on the embedded PostgreSQL")
        if self.redis_url is None:
            problems.append("REDIS_URL: production does not run on the embedded Valkey")
        if "simulated" in self.market_sources.values():
            problems.append("MARKET_DATA: production does not run on simulated market data")
        if self.password_pepper == PEPPER_LABEL:
            problems.append(f"PASSWORD_PEPPER: production needs one of its own; {_MAKE_ONE}")
        elif (reason := weakness(self.password_pepper, least_bytes=MINIMUM_PEPPER_BYTES)) is not None:
            problems.append(f"PASSWORD_PEPPER: {reason}; {_MAKE_ONE}")
        if self.resend_api_key is None:
            problems.append("RESEND_API_KEY: without it letters stay in a folder; Resend is the only way out so far")
        for name in ("API_URL", "FRONTEND_URL"):
            url = getattr(self, name.lower())
            if is_local(url):
                problems.append(f"{name}: {url!r} leads to this machine; production needs what its users can reach")
            elif urlsplit(url).scheme != "https":
                problems.append(f"{name}: {url!r} is not https, and production's tokens and cookies must be encrypted")
        problems += [
            f"CORS_ORIGINS: {origin!r} is local: any program on a user's machine could speak for them"
            for origin in self.cors_origins
            if _is_origin(origin) and is_local(origin)
        ]
        return problems


def describe_settings() -> list[tuple[str, str, str]]:
    """Return every setting's name, default and meaning, in order, to check `example.env` and the README against."""
    return [
        (each.metadata["name"], dump_variable(each.metadata["default"]), each.metadata["help"])
        for each in dataclasses.fields(Settings)
    ]


def _is_origin(text: str) -> bool:
    try:
        _URL(text)
    except ValidationError:
        return False
    parts = urlsplit(text)
    return not (parts.path or parts.query or parts.fragment or "@" in parts.netloc)
