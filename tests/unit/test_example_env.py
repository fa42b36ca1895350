"""`config/example.env` lists every setting, and loading it is the same as loading nothing."""

from __future__ import annotations

import re

import pytest

from config._example import EXAMPLE, render
from config.settings import Settings, describe_settings


def test_the_example_is_what_the_declared_settings_make_of_it() -> None:
    assert EXAMPLE.read_text() == render(), "run: python -m config._example"


def test_every_setting_is_in_the_example_once() -> None:
    names = re.findall(r"^([A-Z0-9_]+)=", EXAMPLE.read_text(), re.MULTILINE)
    assert names == [name for name, _, _ in describe_settings()]


def test_loading_the_example_gives_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, _, _ in describe_settings():
        monkeypatch.setenv(name, "")  # so that it is restored: loading writes into the environment
        monkeypatch.delenv(name)
    defaults = Settings.load(env_file=None)
    assert Settings.load(env_file=EXAMPLE) == defaults
