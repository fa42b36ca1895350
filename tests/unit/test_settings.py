"""Settings that are wrong: the variable, what was given and what is expected, all of it at once."""

from __future__ import annotations

import dataclasses
import secrets
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from marshmallow import ValidationError
from marshmallow.validate import Length, Validator

from config._entropy import weakness
from config._variables import read_variable
from config.settings import ConfigurationError, Settings, describe_settings
from tests.support.services import REPOSITORY

STRONG = "5kJx0mVw2Qn8Rt4Zp7Ly1Hc6Bd9Gf3Sa0Ue5Io2"
PRODUCTION = {
    "ENVIRONMENT": "production",
    "DATABASE_URL": "postgresql://tradestream@db/tradestream",
    "REDIS_URL": "redis://cache:6379/0",
    "JWT_SECRET": STRONG,
    "PASSWORD_PEPPER": STRONG[::-1],
    "RESEND_API_KEY": "re_Ab3dE6gH9",
    "API_URL": "https://api.example.com",
    "FRONTEND_URL": "https://www.example.com",
    "CORS_ORIGINS": "https://www.example.com",
    "LOG_KEY_FILE": "/run/secrets/log.pem",
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Remove the machine's own settings."""
    for name, _, _ in describe_settings():
        monkeypatch.setenv(name, "")  # so that it is restored: loading a file writes into the environment
        monkeypatch.delenv(name)
    return monkeypatch


def spec_of(parse: str, check: Validator | None) -> dataclasses.Field[str]:
    """A secret setting that is declared nowhere."""
    return dataclasses.field(metadata={"parse": parse, "check": check, "secret": True})


def problems_of(environment: pytest.MonkeyPatch, **variables: str) -> list[str]:
    for name, value in variables.items():
        environment.setenv(name, value)
    with pytest.raises(ConfigurationError) as caught:
        Settings.load(env_file=None)
    return caught.value.problems


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("PORT", "abc", "'abc' is not a whole number from 1 to 65535"),
        ("PORT", "", "'' is not a whole number from 1 to 65535"),
        ("PORT", "70000", "'70000' is not a whole number from 1 to 65535"),
        ("PORT", "8000.5", "'8000.5' is not a whole number from 1 to 65535"),
        ("PORT", "9" * 5000, f"'{'9' * 60}…' is not a whole number from 1 to 65535"),
        ("RATE_LIMIT_PER_MINUTE", "0", "'0' is not a whole number of at least 1"),
        ("HEARTBEAT_SECONDS", "-1", "'-1' is not a number above 0"),
        ("HEARTBEAT_SECONDS", "nan", "'nan' is not a number above 0"),
        ("LENS_MODEL_TIMEOUT_SECONDS", "inf", "'inf' is not a number above 0 and at most 100"),
        ("LENS_REJECT_AGE_SECONDS", "old", "'old' is not a number above 0, or nothing"),
        ("RATE_LIMIT_ENABLED", "perhaps", "'perhaps' is not true or false"),
        ("ENVIRONMENT", "prod", "'prod' is not one of development, production"),
        (
            "MARKET_DATA",
            "real",
            "'real' is not one of simulated, hyperliquid, binance, alpaca, oanda, polymarket, kalshi, or nothing",
        ),
        ("RECORD_COSTS_BPS", "crypto:10", "names no costs of stock, option, etf, forex, prediction"),
        ("RECORD_COSTS_BPS", "gold:1", "'gold' is not an asset type: crypto, stock, option, etf, forex, prediction"),
        ("RECORD_COSTS_BPS", "crypto:-1", "'-1' is not a number of basis points from 0 to 10000"),
        ("OPENAI_MODEL", "", "'' is not a text of 1-200 characters"),
        ("API_URL", "localhost:8000", "'localhost:8000' is not a URL that begins with http:// or https://"),
        ("MAIL_FROM", "me", "'me' is not a sender, as in TradeStream <no-reply@tradestream.io>"),
        ("DATA_DIR", "", "'' is not a path"),
        ("TRUSTED_PROXIES", "10.0.0.0/8,10.0.0.x", "'10.0.0.x' is not a network, as in 10.0.0.0/8 or ::1/128"),
        ("RATE_LIMITS", "GET /x=1,GET /y", "'GET /y' is not METHOD /path=number"),
        ("CORS_ORIGINS", "tradestream.io", "'tradestream.io' is not an origin"),
        ("LOG_ORIGIN", "a+b", "'a+b' is not a name without spaces and plus signs, as in example.com/log, or nothing"),
        ("LOG_FORMER_KEYS", "name", "'name' is not a public key, as in name+id+key"),
        (
            "WITNESSES",
            "https://witness.example",
            "'https://witness.example' is not an address and a public key, as in https://witness.example name+id+key",
        ),
    ],
)
def test_a_fault_says_what_was_given_and_what_is_expected(
    environment: pytest.MonkeyPatch, name: str, given: str, said: str
) -> None:
    assert problems_of(environment, **{name: given}) == [f"{name}: {said}"]


def test_invalid_and_contradictory_values_are_reported_together(environment: pytest.MonkeyPatch) -> None:
    problems = problems_of(
        environment, ENVIRONMENT="production", PORT="abc", JWT_SECRET="short", MARKET_DATA="simulated", WORKERS="many"
    )
    assert [each.partition(":")[0] for each in problems] == [
        *("PORT", "WORKERS", "JWT_SECRET", "DATABASE_URL", "REDIS_URL", "MARKET_DATA", "PASSWORD_PEPPER"),
        *("LOG_KEY_FILE", "RESEND_API_KEY", "API_URL", "FRONTEND_URL", "CORS_ORIGINS"),
    ]


def test_an_invalid_value_is_reported_once(environment: pytest.MonkeyPatch) -> None:
    problems = problems_of(environment, **PRODUCTION | {"MARKET_DATA": "real", "REDIS_URL": ""})
    assert [each.partition(":")[0] for each in problems] == ["MARKET_DATA", "REDIS_URL"]


def test_no_secret_is_told(environment: pytest.MonkeyPatch) -> None:
    assert "hunter2" not in str(problems_of(environment, ENVIRONMENT="production", JWT_SECRET="hunter2"))


def test_a_fault_of_a_secret_is_told_without_it() -> None:
    spec = spec_of("str", Length(min=10))
    with pytest.raises(ValidationError, match="what is given is not a text of at least 10 characters") as caught:
        read_variable("hunter2", spec)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(("text", "value"), [("true", True), ("ON", True), ("1", True), ("No", False), ("0", False)])
def test_a_flag_is_read_however_it_is_spelled(environment: pytest.MonkeyPatch, text: str, value: bool) -> None:
    environment.setenv("RATE_LIMIT_ENABLED", text)
    assert Settings.load(env_file=None).rate_limit_enabled is value


def test_links_lead_to_the_port_that_is_served_unless_said_otherwise(environment: pytest.MonkeyPatch) -> None:
    assert Settings.load(env_file=None).api_url == "http://localhost:8000"
    environment.setenv("PORT", "9001")
    assert Settings.load(env_file=None).api_url == "http://localhost:9001"
    environment.setenv("API_URL", "https://api.example.com")
    assert Settings.load(env_file=None).api_url == "https://api.example.com"


def test_the_environment_goes_before_the_file(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PORT=9001\nWORKERS=3\n")
    environment.setenv("PORT", "9002")
    settings = Settings.load(tmp_path / ".env")
    assert (settings.port, settings.workers) == (9002, 3)


def test_settings_survive_the_way_to_a_child_process(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("RATE_LIMITS", "POST /auth/login=20,GET /x per user=3")
    environment.setenv("TRUSTED_PROXIES", "10.0.0.0/8,::1/128")
    environment.setenv("RATE_LIMIT_ENABLED", "off")
    settings = Settings.load(env_file=None)
    for name, value in settings.to_environment().items():
        environment.setenv(name, value)
    assert Settings.load(env_file=None) == settings


def test_production_starts_with_settings_that_are_fit_for_it(environment: pytest.MonkeyPatch) -> None:
    for name, value in PRODUCTION.items():
        environment.setenv(name, value)
    assert Settings.load(env_file=None).is_production


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("JWT_SECRET", "", "JWT_SECRET: production needs a secret of its own"),
        ("JWT_SECRET", "a" * 64, "JWT_SECRET: can be guessed"),
        ("JWT_SECRET", "0123456789abcdef" * 4, "JWT_SECRET: can be guessed"),
        ("JWT_SECRET", "your-256-bit-secret-your-256-bit-secret", "JWT_SECRET: can be guessed"),
        ("JWT_SECRET", "GENERATE_A_RANDOM_SECRET_KEY_AT_LEAST_64_CHARS", "JWT_SECRET: can be guessed"),
        ("JWT_SECRET", STRONG[:31], "JWT_SECRET: shorter than 32 bytes"),
        ("PASSWORD_PEPPER", "tradestream.password.v1", "PASSWORD_PEPPER: production needs one of its own"),
        ("PASSWORD_PEPPER", "passwordpasswordpassword", "PASSWORD_PEPPER: can be guessed"),
        ("LOG_KEY_FILE", "", "LOG_KEY_FILE: production needs a key of its own; `openssl genpkey"),
        ("RESEND_API_KEY", "", "RESEND_API_KEY: without it e-mails stay in a folder"),
        ("OANDA_BASE_URL", "http://oanda.example.com", "OANDA_BASE_URL: 'http://oanda.example.com' is not https"),
        ("ALPACA_BASE_URL", "http://x.example.com", "ALPACA_BASE_URL: 'http://x.example.com' is not https"),
        ("API_URL", "http://api.example.com", "API_URL: 'http://api.example.com' is not https"),
        ("API_URL", "https://127.0.0.1:8000", "API_URL: 'https://127.0.0.1:8000' leads to this machine"),
        ("FRONTEND_URL", "https://localhost", "FRONTEND_URL: 'https://localhost' leads to this machine"),
        ("FRONTEND_URL", "https://[::ffff:127.0.0.1]", "FRONTEND_URL: 'https://[::ffff:127.0.0.1]' leads to"),
        ("CORS_ORIGINS", "https://a.example,http://localhost:3000", "CORS_ORIGINS: 'http://localhost:3000' is local"),
        ("CORS_ORIGINS", "https://app.localhost", "CORS_ORIGINS: 'https://app.localhost' is local"),
    ],
)
def test_production_refuses_what_is_fine_on_a_laptop_only(
    environment: pytest.MonkeyPatch, name: str, given: str, said: str
) -> None:
    """The kind: a default or an example that is safe only while no other machine can reach the server."""
    [problem] = problems_of(environment, **PRODUCTION | {name: given})
    assert problem.startswith(said)


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
def test_a_secret_is_as_long_as_its_algorithm_wants(environment: pytest.MonkeyPatch, algorithm: str) -> None:
    [problem] = problems_of(environment, **PRODUCTION | {"JWT_ALGORITHM": algorithm})
    assert problem.startswith(f"JWT_SECRET: shorter than {(algorithm == 'HS384' and 48) or 64} bytes")


@pytest.mark.parametrize(
    "make",
    [
        lambda: secrets.token_hex(16),
        lambda: secrets.token_urlsafe(24),
        lambda: str(uuid.UUID(bytes=secrets.token_bytes(16), version=4)),
    ],
)
def test_random_secrets_are_never_taken_for_words(make: Callable[[], str]) -> None:
    assert [each for each in (make() for _ in range(200)) if weakness(each, least_bytes=32)] == []


def test_the_secret_that_was_published_signs_nothing_in_development_either(environment: pytest.MonkeyPatch) -> None:
    published = "development-only-secret-that-signs-nothing-of-value"
    [problem] = problems_of(environment, JWT_SECRET=published)
    assert problem.startswith("JWT_SECRET: is published in old examples")


def test_processes_without_a_secret_have_one_of_their_own(environment: pytest.MonkeyPatch) -> None:
    code = "from config.settings import Settings; print(Settings.load(env_file=None).jwt_secret)"
    made = {subprocess.check_output([sys.executable, "-c", code], cwd=REPOSITORY, text=True).strip() for _ in range(2)}
    made.add(Settings.load(env_file=None).jwt_secret)
    assert len(made) == 3
    assert all(len(each) > 80 for each in made)


@pytest.mark.parametrize("name", ["JWT_SECRET", "OPENAI_API_KEY", "API_URL", "DATA_DIR", "GOOGLE_CLIENT_ID"])
def test_every_kind_of_value_is_trimmed(environment: pytest.MonkeyPatch, name: str) -> None:
    """The kind: a line break or blanks that came along from a file or a clipboard."""
    plain = "https://api.example.com" if name == "API_URL" else STRONG
    environment.setenv("GOOGLE_CLIENT_SECRET", STRONG if name.startswith("GOOGLE") else "")
    environment.setenv(name, f" \t{plain}\r\n")
    assert str(getattr(Settings.load(env_file=None), name.lower())) == plain


@pytest.mark.parametrize("character", ["\n", "\r", "\0", "\x1b"])
def test_no_value_holds_a_control_character(environment: pytest.MonkeyPatch, character: str) -> None:
    if character == "\0":  # no environment can hold it
        with pytest.raises(ValidationError, match="what is given holds a line break") as caught:
            read_variable(f"sk-{character}x", spec_of("str", None))
        assert "sk-" not in str(caught.value)
        return
    assert problems_of(environment, OPENAI_API_KEY=f"sk-1{character}2") == [
        "OPENAI_API_KEY: what is given holds a line break or another control character"
    ]


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("REDIS_URL", "foo", "what is given is not a URL as in redis://host:6379/0"),
        ("REDIS_URL", "redis://cache:port/0", "what is given is not a URL as in redis://"),
        ("REDIS_URL", "redis://cache/first", "what is given is not a URL as in redis://"),
        ("REDIS_URL", "unix://", "what is given is not a URL as in redis://"),
        ("RAY_ADDRESS", "foo", "'foo' is not host:port of a running Ray"),
        ("RAY_ADDRESS", "head:70000", "'head:70000' is not host:port of a running Ray"),
        ("DATABASE_URL", "foo", "what is given is not a URL as in postgresql://"),
        ("DATABASE_URL", "mysql://db/x", "what is given is not a URL as in postgresql://"),
        ("DATABASE_URL", "postgresql://db:five/x", "what is given is not a URL as in postgresql://"),
        ("MONGO_URL", "localhost:27017", "what is given is not a URL as in mongodb://"),
        ("KAFKA_BOOTSTRAP_SERVERS", "a:9092,b", "'a:9092,b' is not host:port"),
        ("OPENAI_API_KEY", "ключ", "what is given is not one word of printable ASCII characters"),
        ("GITHUB_TOKEN_URL", "https://github.com:https/x", "'https://github.com:https/x' is not a URL"),
        ("GOOGLE_CLIENT_ID", "me", "GOOGLE_CLIENT_SECRET: is not set, and GOOGLE_CLIENT_ID is"),
        ("GITHUB_CLIENT_SECRET", "s3cr3t", "GITHUB_CLIENT_ID: is not set, and GITHUB_CLIENT_SECRET is"),
        ("RAY_DASHBOARD_PORT", "8000", "RAY_DASHBOARD_PORT: is 8000, and so is PORT"),
    ],
)
def test_an_address_that_is_none_is_told_before_anybody_tries_it(
    environment: pytest.MonkeyPatch, name: str, given: str, expected: str
) -> None:
    """The kind: settings that were not checked, and failed a minute later in a child or not at all."""
    [problem] = problems_of(environment, **{name: given})
    assert expected in problem


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("postgres://u:p@db/x", "postgresql://u:p@db/x"),
        ("postgresql+asyncpg://u:p@db:5432/x", "postgresql://u:p@db:5432/x"),
        ("postgresql+psycopg://u:p@db/x?sslmode=require", "postgresql://u:p@db/x?sslmode=require"),
        ("postgresql+asyncpg://db/x?ssl=true&prepared_statement_cache_size=0", "postgresql://db/x?sslmode=require"),
        ("postgresql:///x?host=/run/postgresql", "postgresql:///x?host=/run/postgresql"),
    ],
)
def test_a_database_is_found_however_other_programs_write_it(
    environment: pytest.MonkeyPatch, given: str, taken: str
) -> None:
    environment.setenv("DATABASE_URL", given)
    assert Settings.load(env_file=None).database_url == taken


def test_faults_of_a_file_are_reported_by_line_and_without_values(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The kind: lines of `.env` that were passed over in silence."""
    (tmp_path / ".env").write_text(
        "# a comment\nPORT 9001\nexport WORKERS=2\nDATABASE_URI=x\nLENS_RETRYS=1\n"
        "JWT_SECRET='hunter2\nLENS_SPEED=3\nWORKERS=3\nPOSTGRES_PASSWORD=y\n"
    )
    with pytest.raises(ConfigurationError) as caught:
        Settings.load(tmp_path / ".env")
    said = str(caught.value)
    for each in (
        *("line 2 is not NAME=value", "line 6 is not NAME=value", "line 8 gives WORKERS again, after line 3"),
        *("DATABASE_URI: there is no such setting; did you mean DATABASE_URL?", "did you mean LENS_RETRIES?"),
        "LENS_SPEED: there is no such setting",
    ):
        assert each in said
    assert len(caught.value.problems) == 6
    assert "hunter2" not in said


def test_a_file_that_is_not_text_is_told(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"PORT=9\xff\n")
    with pytest.raises(ConfigurationError, match="is not UTF-8"):
        Settings.load(tmp_path / ".env")


def test_a_file_may_begin_with_a_mark_and_end_lines_as_windows_does(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_bytes("\ufeffPORT=9001\r\nWORKERS=2\r\n".encode())
    settings = Settings.load(tmp_path / ".env")
    assert (settings.port, settings.workers) == (9001, 2)


@pytest.mark.parametrize(
    ("name", "meant"), [("LENS_RETRYS", "LENS_RETRIES"), ("JWT_SECERT", "JWT_SECRET"), ("WORKER", "WORKERS")]
)
def test_a_slip_in_the_environment_is_told(environment: pytest.MonkeyPatch, name: str, meant: str) -> None:
    assert problems_of(environment, **{name: "1"}) == [f"{name}: there is no such setting; did you mean {meant}?"]


def test_names_that_are_somebody_elses_are_left_alone(environment: pytest.MonkeyPatch) -> None:
    given = {"REDIS_TLS_URL": "x", "HOSTNAME": "x", "PORTS": "x", "GOOGLE_CLOUD_PROJECT": "x", "DATABASE_URI": "x"}
    for name, value in (given | {"DATABASE_URL": "postgresql://db/x"}).items():
        environment.setenv(name, value)
    assert Settings.load(env_file=None).database_url == "postgresql://db/x"
