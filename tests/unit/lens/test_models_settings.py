"""The settings of the models, and the SDKs that they need."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from actors.lens.models import open_models
from config.settings import ConfigurationError, Settings


def load(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Settings:
    for name in ("OPENAI", "GOOGLE", "ANTHROPIC", "DEEPSEEK"):
        monkeypatch.delenv(f"{name}_API_KEY", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return Settings.load(env_file=None)


@pytest.mark.parametrize(
    ("variable", "package", "problem"),
    [
        ("OPENAI_API_KEY", "openai", "LENS_MODELS: chatgpt needs an SDK: pip install '.[openai]'"),
        ("GOOGLE_API_KEY", "google.genai", "LENS_MODELS: gemini needs an SDK: pip install '.[google]'"),
        ("ANTHROPIC_API_KEY", "anthropic", "LENS_MODELS: claude needs an SDK: pip install '.[anthropic]'"),
        ("DEEPSEEK_API_KEY", "openai", "LENS_MODELS: deepseek needs an SDK: pip install '.[openai]'"),
    ],
)
def test_a_model_whose_sdk_is_missing_is_refused_at_the_start(
    monkeypatch: pytest.MonkeyPatch, variable: str, package: str, problem: str
) -> None:
    settings = load(monkeypatch, **{variable: "key"})
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    with pytest.raises(ConfigurationError) as caught:
        Settings.load(env_file=None)
    assert caught.value.problems == [problem]
    with pytest.raises(ConfigurationError) as caught:
        open_models(settings)
    assert caught.value.problems == [problem]


def test_a_model_that_is_not_configured_needs_no_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("openai", "google.genai", "anthropic"):
        monkeypatch.setitem(sys.modules, package, None)
    [model] = open_models(load(monkeypatch))
    assert model.name == "technical"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("LENS_MODEL_TIMEOUT_SECONDS", "0"),
        ("LENS_MODEL_TIMEOUT_SECONDS", "101"),
        ("LENS_MODEL_TEMPERATURE", "2.1"),
        ("LENS_MODEL_MAX_TOKENS", "0"),
        ("LENS_MODEL_CONCURRENCY", "0"),
        ("OPENAI_BASE_URL", "api.openai.com"),
        ("ANTHROPIC_MODEL", ""),
    ],
)
def test_a_setting_out_of_range_is_refused(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=variable):
        load(monkeypatch, **{variable: value})


def test_the_defaults_are_the_contract_s_and_survive_the_way_to_a_child_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = load(monkeypatch)
    assert settings.openai_model == "gpt-4o"
    assert (settings.lens_model_timeout_seconds, settings.lens_model_temperature) == (30.0, 0.1)
    assert settings.lens_model_max_tokens == 1000
    child = load(monkeypatch, **settings.replace(lens_model_temperature=None).to_environment())
    assert child.lens_model_temperature is None


def test_shards_share_the_calls_of_one_model(monkeypatch: pytest.MonkeyPatch) -> None:
    several = load(monkeypatch, OPENAI_API_KEY="key", LENS_MODEL_CONCURRENCY="10", LENS_SHARDS="3")
    [model] = open_models(several)
    assert model._gate._slots._value == 3  # type: ignore[attr-defined]
    with pytest.raises(ConfigurationError, match="LENS_SHARDS: 11 is more than LENS_MODEL_CONCURRENCY"):
        load(monkeypatch, OPENAI_API_KEY="key", LENS_SHARDS="11")


def test_an_api_key_is_in_no_repr() -> None:
    from actors.lens.models._remote import ModelOptions

    make: Callable[..., ModelOptions] = ModelOptions
    options = make(
        model="m", api_key="sk-secret", base_url="u", timeout_seconds=1, temperature=None, max_tokens=1, concurrency=1
    )
    assert "sk-secret" not in repr(options)
