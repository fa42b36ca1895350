"""Find the SDK that each model needs, and whether it is installed: SDKs are optional extras of setup.py."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

MODELS = ("chatgpt", "gemini", "claude", "deepseek", "technical")
MODEL_KEYS = {
    "chatgpt": "openai_api_key",
    "gemini": "google_api_key",
    "claude": "anthropic_api_key",
    "deepseek": "deepseek_api_key",
}

_PACKAGES: Final = {  # by model: the extra, and the SDK's package
    "chatgpt": ("openai", "openai"),
    "gemini": ("google", "google.genai"),
    "claude": ("anthropic", "anthropic"),
    "deepseek": ("openai", "openai"),
}


def missing_extra(model: str) -> str | None:
    """Return the fault if the SDK that `model` needs is not installed; None if it is, or if it needs none."""
    extra, package = _PACKAGES.get(model, ("", ""))
    try:
        is_installed = not package or find_spec(package) is not None
    except ModuleNotFoundError:  # of its parent package
        is_installed = False
    return None if is_installed else f"LENS_MODELS: {model} needs an SDK: pip install '.[{extra}]'"
