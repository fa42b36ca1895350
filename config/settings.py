"""Every setting of the system: one declaration, read from the environment or a `.env` file, validated at start.

`Settings.load()` reports everything that is wrong at once. Nothing else in the project reads the environment.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

from environs import Env, EnvValidationError
from marshmallow.validate import Length, OneOf, Range, Regexp, Validator

from config._consistency import PEPPER_LABEL, PROCESS_SECRET, contradictions
from config._costs import DEFAULT_COSTS_BPS, costs_bps
from config._env_file import environment, put_into_environment, read_env_file, unknown_names
from config._market import market_sources
from config._urls import WEB_URL, HostPorts, RedisUrl, Url
from config._variables import Network, dump_variable, read_variable
from config.masking import protect
from config.model_sdks import MODEL_KEYS, MODELS


class ConfigurationError(Exception):
    """The configuration cannot be used. `problems` lists every fault, one line each."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


def _setting(
    default: object,
    *,
    check: Validator | None = None,
    parse: str = "",
    secret: bool = False,
    help: str = "",  # noqa: A002
) -> Any:
    """Declare a setting. It is parsed by its annotation, or as the kind `parse` of `config/_variables.py`."""
    metadata = {"default": default, "check": check, "parse": parse, "secret": secret, "help": help}
    return field(metadata=metadata, repr=not secret)


_POSITIVE = Range(min=0, min_inclusive=False)
_COUNT = Range(min=1)
_POSTGRES_URL = Url("postgresql", needs_host=False, error="a URL as in postgresql://user:password@host:5432/database")
_MONGO_URL = Regexp(r"^mongodb(\+srv)?://[^\s/]+", error="a URL as in mongodb://host:27017/database")
_RAY_ADDRESS = HostPorts(error="host:port of a running Ray", words=frozenset({"auto"}))
_KAFKA_SERVERS = HostPorts(error="host:port, or several separated by commas", several=True)
_API_KEY = Regexp(r"^[!-~]+$", error="one word of printable ASCII characters")
_SENDER = Regexp(r"^[^\r\n]+@[^\r\n]+$", error="a sender, as in TradeStream <no-reply@tradestream.io>")
_NAME = Length(min=1, max=200)
_LOG_ORIGIN = Regexp(r"^[!-*,-~]{1,200}$", error="a name without spaces and plus signs, as in example.com/log")
_NETWORKS = "127.0.0.0/8,::1/128,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,fc00::/7"
_ORIGINS = "https://tradestream.io,https://www.tradestream.io,http://localhost:3000"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The validated configuration. Field order is the order of `example.env`; secrets are left out of `repr`."""

    # The server
    environment: str = _setting(
        "development",
        check=OneOf(("development", "production")),
        help="production refuses embedded services and weak secrets",
    )
    host: str = _setting(
        "127.0.0.1",
        check=Length(min=1),
        help="address the gateways listen on; with this machine's own, 127.0.0.1, also on ::1: it is localhost",
    )
    port: int = _setting(8000, check=Range(min=1, max=65535), help="port all gateways share")
    http_server: str = _setting(
        "llhttp",
        check=OneOf(("llhttp", "tornado")),
        help="which HTTP server carries the application: ours over llhttp, or Tornado's own (docs/adr/0011-http.md)",
    )
    workers: int = _setting(1, check=Range(min=1, max=64), help="gateway processes on this machine")
    data_dir: Path = _setting(Path(".data"), help="embedded servers, Ray's files and the mail folder")
    log_format: str = _setting("text", check=OneOf(("text", "json")))
    log_level: str = _setting("INFO", check=OneOf(("DEBUG", "INFO", "WARNING", "ERROR")))
    drain_seconds: float = _setting(
        10.0, check=Range(min=0, max=600), help="time in which open requests and streams are ended on SIGTERM"
    )
    drain_delay_seconds: float = _setting(
        0.0,
        check=Range(min=0, max=600),
        help="goes on serving for so long after SIGTERM, /ready red, while balancers take it out; then drains",
    )

    # The services behind it
    database_url: str | None = _setting(
        None, parse="postgres", check=_POSTGRES_URL, secret=True, help="unset: an embedded PostgreSQL under DATA_DIR"
    )
    database_pool_size: int = _setting(10, check=Range(min=1, max=1000), help="connections per gateway process")
    redis_url: str | None = _setting(
        None, check=RedisUrl(), secret=True, help="unset: an embedded Valkey under DATA_DIR"
    )
    ray_address: str | None = _setting(None, check=_RAY_ADDRESS, help="host:port of a running Ray; unset: a local one")
    actor_placement: str = _setting(
        "together",
        help="which actors share a process: together (one machine), spread (none), or groups (ARCHITECTURE.md)",
    )
    ray_dashboard_port: int = _setting(
        8265, check=Range(min=0, max=65535), help="0 starts the local Ray without its dashboard"
    )
    kafka_bootstrap_servers: str | None = _setting(
        None, check=_KAFKA_SERVERS, help="host:port, host:port: reads the topic scored-signals"
    )
    kafka_group: str = _setting(
        "tradestream",
        check=_NAME,
        help="under which offsets are committed: one for each deployment that reads the topic",
    )
    mongo_url: str | None = _setting(
        None, check=_MONGO_URL, secret=True, help="unset: the Lens archive lives in Postgres"
    )

    # Accounts
    jwt_secret: str = _setting(
        "",
        secret=True,
        help="unset in development: made at the first start, in DATA_DIR/jwt.secret; production needs 32 random bytes",
    )
    jwt_algorithm: str = _setting("HS256", check=OneOf(("HS256", "HS384", "HS512")))
    password_pepper: str = _setting(
        PEPPER_LABEL, secret=True, help="production needs one of its own, never changed again"
    )
    google_client_id: str | None = _setting(None, check=_API_KEY)
    google_client_secret: str | None = _setting(None, check=_API_KEY, secret=True)
    github_client_id: str | None = _setting(None, check=_API_KEY)
    github_client_secret: str | None = _setting(None, check=_API_KEY, secret=True)
    google_authorize_url: str = _setting("https://accounts.google.com/o/oauth2/v2/auth", check=WEB_URL)
    google_token_url: str = _setting("https://oauth2.googleapis.com/token", check=WEB_URL)
    google_userinfo_url: str = _setting("https://openidconnect.googleapis.com/v1/userinfo", check=WEB_URL)
    github_authorize_url: str = _setting("https://github.com/login/oauth/authorize", check=WEB_URL)
    github_token_url: str = _setting("https://github.com/login/oauth/access_token", check=WEB_URL)
    github_api_url: str = _setting("https://api.github.com", check=WEB_URL)
    resend_api_key: str | None = _setting(
        None, check=_API_KEY, secret=True, help="unset: mail is written to the Maildir DATA_DIR/mail"
    )
    resend_base_url: str = _setting("https://api.resend.com", check=WEB_URL)
    mail_from: str = _setting("TradeStream <no-reply@tradestream.io>", check=_SENDER)
    api_url: str = _setting(
        "http://localhost:8000",
        check=WEB_URL,
        help="where clients reach this server: links in e-mails, OAuth callbacks; unset: localhost and PORT",
    )
    frontend_url: str = _setting("http://localhost:3000", check=WEB_URL, help="where browsers are sent on to")
    cors_origins: tuple[str, ...] = _setting(_ORIGINS)

    # Records
    splits_file: Path | None = _setting(
        None,
        help="corporate splits, a line each of `date,asset_type,symbol,new,old` or a JSON object of those: "
        "`2026-06-08,stock,NVDA,10,1`; read again when it changes",
    )

    # The public log
    log_key_file: Path | None = _setting(
        None,
        help="the private Ed25519 key (PEM) that signs the log, nothing else; unset in development: made at the first "
        "start, in DATA_DIR/log.pem; production needs one: `openssl genpkey -algorithm ed25519 -out log.pem`",
    )
    log_former_keys: tuple[str, ...] = _setting(
        "", help="public keys, as /log/key showed them, that signed the log before LOG_KEY_FILE was replaced"
    )
    log_origin: str | None = _setting(
        None,
        check=_LOG_ORIGIN,
        help="the log's name, never changed again; unset: API_URL's host and /log, as at the first start",
    )
    witnesses: tuple[str, ...] = _setting(
        "",
        help="who cosigns the log's checkpoints, by c2sp.org/tlog-witness: the address and the public key of each, as "
        "in `https://witness.example witness.example+ab12cd34+BGtl…`",
    )

    # Limits and the network
    rate_limit_per_minute: int = _setting(60, check=_COUNT)
    rate_limit_enabled: bool = _setting(True)
    rate_limits: tuple[tuple[str, int], ...] = _setting(
        "",
        help="other numbers for single routes, as in `POST /auth/login=20,GET /api/signals=300`; "
        "`GET /api/signals/stream resumed=300` is for streams that go on after an event, "
        "`POST /auth/login wrong=20` for wrong passwords per account in 15 minutes",
    )
    trusted_proxies: tuple[Network, ...] = _setting("")
    internal_networks: tuple[Network, ...] = _setting(_NETWORKS)
    allowed_hosts: tuple[str, ...] = _setting(
        "", help="names beyond API_URL's for /api/v1, /metrics and WebSockets; .example.com is all under it"
    )

    idle_seconds: float = _setting(
        150.0,
        check=_POSITIVE,
        help="after which an idle connection is closed: longer than the proxy in front keeps it, or answers get lost",
    )
    unread_bytes: int = _setting(
        64 << 10,
        check=_COUNT,
        help="of answers that a client does not take: then nothing more of it is read until it does",
    )
    max_connections: int = _setting(
        20_000,
        check=_COUNT,
        help="open HTTP connections per gateway process; streams and sockets have their own bounds",
    )
    max_connections_per_address: int = _setting(
        500, check=_COUNT, help="of those from one address (IPv6: /64); TRUSTED_PROXIES and loopback count in all only"
    )

    # Streams
    heartbeat_seconds: float = _setting(15.0, check=_POSITIVE)
    stream_max_seconds: float = _setting(3600.0, check=_POSITIVE)
    stream_buffer_bytes: int = _setting(1 << 20, check=_COUNT)
    max_streams: int = _setting(20_000, check=_COUNT, help="open streams per gateway process")
    ws_max_connections: int = _setting(100, check=_COUNT, help="open Lens sockets per gateway process")

    # Records
    record_costs_bps: str = _setting(
        DEFAULT_COSTS_BPS,
        parse="costs",
        help="what one side of a trade costs in a record, in basis points by asset type; "
        "another value holds for what is recorded from then on, and recomputing the past gives other digits",
    )

    # Lens
    market_data: str | None = _setting(
        None,
        parse="market",
        help="a source for all that it knows (simulated: everything; hyperliquid, binance: crypto; alpaca: stocks, "
        "ETFs, options; oanda: forex; polymarket, kalshi: predictions), or one for each asset type, as in "
        "crypto:hyperliquid,stock:alpaca; a type without one is published without market data; "
        "default: simulated in development, hyperliquid in production",
    )
    hyperliquid_base_url: str = _setting("https://api.hyperliquid.xyz", check=WEB_URL)
    binance_base_url: str = _setting("https://data-api.binance.vision", check=WEB_URL)
    alpaca_base_url: str = _setting("https://data.alpaca.markets", check=WEB_URL)
    alpaca_key_id: str | None = _setting(None, check=_API_KEY, secret=True)
    alpaca_secret_key: str | None = _setting(None, check=_API_KEY, secret=True)
    alpaca_stock_feed: str = _setting("iex", check=OneOf(("iex", "sip")), help="of the plan: sip is all exchanges")
    alpaca_option_feed: str = _setting("indicative", check=OneOf(("indicative", "opra")), help="of the plan")
    alpaca_calls_per_minute: int = _setting(200, check=_COUNT, help="of the plan, shared by LENS_SHARDS")
    oanda_base_url: str = _setting(
        "https://api-fxpractice.oanda.com", check=WEB_URL, help="a practice account's; it has the prices of a real one"
    )
    oanda_account: str | None = _setting(None, check=_API_KEY, help="the account's number, as in 101-001-1234567-001")
    oanda_token: str | None = _setting(None, check=_API_KEY, secret=True)
    polymarket_base_url: str = _setting("https://clob.polymarket.com", check=WEB_URL)
    polymarket_gamma_url: str = _setting("https://gamma-api.polymarket.com", check=WEB_URL)
    kalshi_base_url: str = _setting("https://api.elections.kalshi.com/trade-api/v2", check=WEB_URL)
    lens_models: tuple[str, ...] = _setting("", help="default: every model whose key is set, technical when none is")
    lens_feature_profile: str = _setting(
        "trend_follow_v1", check=OneOf(("trend_follow_v1", "crypto_perps_v1", "full_v1"))
    )
    lens_shards: int = _setting(
        1,
        check=Range(min=1, max=64),
        help="lanes of the pipeline, each a process of its own by default; a signal's source decides on its lane",
    )
    lens_retries: int = _setting(3, check=Range(min=0, max=20))
    lens_retry_base_seconds: float = _setting(1.0, check=_POSITIVE)
    lens_retry_max_seconds: float = _setting(30.0, check=_POSITIVE)
    lens_reject_age_seconds: float | None = _setting(None, check=_POSITIVE)
    lens_reject_drift_bps: float | None = _setting(None, check=_POSITIVE)
    lens_archive_days: int = _setting(180, check=_COUNT)
    openai_api_key: str | None = _setting(None, check=_API_KEY, secret=True)
    google_api_key: str | None = _setting(None, check=_API_KEY, secret=True)
    anthropic_api_key: str | None = _setting(None, check=_API_KEY, secret=True)
    deepseek_api_key: str | None = _setting(None, check=_API_KEY, secret=True)
    openai_base_url: str = _setting("https://api.openai.com/v1", check=WEB_URL)
    google_base_url: str = _setting("https://generativelanguage.googleapis.com", check=WEB_URL)
    anthropic_base_url: str = _setting("https://api.anthropic.com", check=WEB_URL)
    deepseek_base_url: str = _setting("https://api.deepseek.com", check=WEB_URL)
    openai_model: str = _setting("gpt-4o", check=_NAME, help="the id of `chatgpt`")
    google_model: str = _setting(
        "gemini-3.5-flash-lite",
        check=_NAME,
        help="the id of `gemini`; one that thinks longer needs more LENS_MODEL_MAX_TOKENS",
    )
    anthropic_model: str = _setting(
        "claude-sonnet-5-5",
        check=_NAME,
        help="the id of `claude`; one that always thinks needs more LENS_MODEL_MAX_TOKENS",
    )
    deepseek_model: str = _setting("deepseek-flash", check=_NAME, help="the id of `deepseek`")
    lens_model_timeout_seconds: float = _setting(
        30.0,
        check=Range(min=0, min_inclusive=False, max=100),  # the evaluate stage gives up on an attempt after 120 s
        help="for one answer, the wait for one of LENS_MODEL_CONCURRENCY calls included",
    )
    lens_model_temperature: float | None = _setting(
        0.1,
        check=Range(min=0, max=2),
        help="of chatgpt and deepseek (the others take none); empty: the vendor's default, for ids that refuse it",
    )
    lens_model_max_tokens: int = _setting(1000, check=Range(min=100, max=100_000), help="of one answer")
    lens_model_concurrency: int = _setting(32, check=Range(min=1, max=1000), help="calls of one model at once")

    @classmethod
    def load(
        cls, env_file: Path | None = Path(".env"), *, checks: Iterable[Callable[[Settings], list[str]]] = ()
    ) -> Settings:
        """Read the environment, and under it `env_file`; validate all of it, or raise `ConfigurationError`.

        `checks` find faults of settings that are valid by themselves, `NAME: what` each; all are reported at once.
        """
        in_file, problems = ({}, []) if env_file is None or env_file.is_dir() else read_env_file(env_file)
        specs = {each.name.upper(): each for each in dataclasses.fields(cls)}
        problems += unknown_names(specs, in_file, environment())
        env = Env(eager=False)  # collects what is invalid, and goes on
        env.add_parser("setting", read_variable)
        values = {}
        for name, each in specs.items():
            values[each.name] = env.setting(name, in_file.get(name, each.metadata["default"]), spec=each)
        try:
            env.seal()
        except EnvValidationError as error:
            invalid = cast(Mapping[str, list[str]], error.error_messages)  # those of `seal` are by variable
            for name, texts in invalid.items():
                problems += [f"{name}: {text}" for text in texts]
                values[specs[name].name] = read_variable(specs[name].metadata["default"], specs[name])
        if "API_URL" not in in_file | environment():
            values["api_url"] = f"http://localhost:{values['port']}"
        values["jwt_secret"] = values["jwt_secret"] or PROCESS_SECRET
        settings = cls(**values)
        # A setting that has no valid value keeps its default here, and gets no further complaint.
        faulty = {problem.partition(":")[0] for problem in problems}
        for find in (contradictions, *checks):
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
    def costs_bps(self) -> Mapping[str, Decimal]:
        """Return what one side of a trade costs, in basis points by asset type."""
        return costs_bps(self.record_costs_bps)

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
        return {each.name.upper(): dump_variable(getattr(self, each.name)) for each in dataclasses.fields(self)}


def describe_settings() -> list[tuple[str, str, str]]:
    """Return every setting's name, default and meaning, in order, to check `example.env` and the README against."""
    return [
        (each.name.upper(), dump_variable(each.metadata["default"]), each.metadata["help"])
        for each in dataclasses.fields(Settings)
    ]
