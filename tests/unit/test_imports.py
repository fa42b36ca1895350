"""What starts does not load packages that it does not use: each costs every start, and every process memory."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from config.imports import without


@pytest.mark.parametrize(
    ("module", "unused"),
    [
        ("actors.lens.enrich", {"pandas", "polars", "scipy"}),
        ("actors.leaderboards.leaderboards", {"pandas", "scipy"}),
        ("server.supervisor.supervisor", {"redis", "numpy", "ray"}),
        ("db._subscription", {"opentelemetry.sdk.metrics"}),
    ],
)
def test_a_module_does_not_load_what_it_does_not_use(module: str, unused: set[str]) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    assert unused.isdisjoint(loaded.split())


def test_a_hidden_module_can_be_imported_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "this", raising=False)
    with without("this", "sys"), pytest.raises(ImportError):
        importlib.import_module("this")
    assert "this" not in sys.modules
    assert "sys" in sys.modules
