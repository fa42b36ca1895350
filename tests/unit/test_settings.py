"""Settings that are wrong: the variable, what was given and what is expected, all of it at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.settings import DEVELOPMENT_JWT_SECRET, ConfigurationError, Settings, describe_settings


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No setting of the machine's."""
    for name, _, _ in describe_settings():
        monkeypatch.setenv(name, "")  # so that it is restored: loading a file writes into the environment
        monkeypatch.delenv(name)
    return monkeypatch


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
        ("MARKET_DATA", "real", "'real' is not one of simulated, hyperliquid, or nothing"),
        ("OPENAI_MODEL", "", "'' is not a text of 1-200 characters"),
        ("API_URL", "localhost:8000", "'localhost:8000' is not a URL that begins with http:// or https://"),
        ("MAIL_FROM", "me", "'me' is not a sender, as in TradeStream <no-reply@tradestream.io>"),
        ("DATA_DIR", "", "'' is not a path"),
        ("TRUSTED_PROXIES", "10.0.0.0/8,10.0.0.x", "'10.0.0.x' is not a network, as in 10.0.0.0/8 or ::1/128"),
        ("RATE_LIMITS", "GET /x=1,GET /y", "'GET /y' is not METHOD /path=number"),
        ("CORS_ORIGINS", "tradestream.io", "'tradestream.io' is not an origin"),
    ],
)
def test_a_fault_says_what_was_given_and_what_is_expected(
    environment: pytest.MonkeyPatch, name: str, given: str, said: str
) -> None:
    assert problems_of(environment, **{name: given}) == [f"{name}: {said}"]


def test_what_is_no_value_and_what_contradicts_the_rest_are_told_at_once(environment: pytest.MonkeyPatch) -> None:
    problems = problems_of(
        environment, ENVIRONMENT="production", PORT="abc", JWT_SECRET="short", MARKET_DATA="simulated", WORKERS="many"
    )
    assert [each.partition(":")[0] for each in problems] == [
        *("PORT", "WORKERS", "DATABASE_URL", "REDIS_URL", "MARKET_DATA", "JWT_SECRET")
    ]


def test_what_is_no_value_is_told_once(environment: pytest.MonkeyPatch) -> None:
    problems = problems_of(environment, ENVIRONMENT="production", MARKET_DATA="real", JWT_SECRET=DEVELOPMENT_JWT_SECRET)
    assert [each.partition(":")[0] for each in problems] == ["MARKET_DATA", "DATABASE_URL", "REDIS_URL", "JWT_SECRET"]


def test_no_secret_is_told(environment: pytest.MonkeyPatch) -> None:
    assert "hunter2" not in str(problems_of(environment, ENVIRONMENT="production", JWT_SECRET="hunter2"))


def test_a_fault_of_a_secret_is_told_without_it() -> None:
    from marshmallow.validate import Length

    from config._variables import read_variable

    spec = {"name": "X", "parse": "str", "default": "", "check": Length(min=10), "secret": True}
    with pytest.raises(ValueError, match="what is given is not a text of at least 10 characters") as caught:
        read_variable("hunter2", spec)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(("text", "value"), [("true", True), ("ON", True), ("1", True), ("No", False), ("0", False)])
def test_a_flag_is_read_however_it_is_spelled(environment: pytest.MonkeyPatch, text: str, value: bool) -> None:
    environment.setenv("RATE_LIMIT_ENABLED", text)
    assert Settings.load(env_file=None).rate_limit_enabled is value


def test_links_lead_to_the_port_that_is_served_unless_said_otherwise(environment: pytest.MonkeyPatch) -> None:
    assert Settings.load(env_file=None).api_url == "http://127.0.0.1:8000"
    environment.setenv("PORT", "9001")
    assert Settings.load(env_file=None).api_url == "http://127.0.0.1:9001"
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
