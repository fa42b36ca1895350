"""Finds the processes of a running server that a test kills: its own descendants, and no others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psutil

from tests.support.services import Server


@dataclass(frozen=True)
class Victim:
    """A part of the system. `child` is the supervisor's name for it; `matches` tells its process from its siblings.

    `recovery_seconds` is how long the whole system may take until it serves again, on a machine that is busy.
    """

    title: str
    child: str
    matches: Callable[[psutil.Process], bool]
    recovery_seconds: float = 45.0

    def __str__(self) -> str:
        return self.title

    def find(self, server: Server) -> psutil.Process | None:
        """Return the victim's process, if it runs."""
        return next((each for each in server.children(self.child) if _runs(each) and self.matches(each)), None)


def _runs(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _actors(name: str, title: str) -> Victim:
    # While a call is under way Ray appends its name: "ray::Lens.deliver".
    return Victim(name, "ray", lambda process: _title(process).partition(".")[0].strip() == f"ray::{title}")


def _binary(name: str) -> Callable[[psutil.Process], bool]:
    return lambda process: process.name() == name


def _is_first(process: psutil.Process) -> bool:
    parent = process.parent()
    return parent is None or parent.name() != process.name()


def _is_backend(process: psutil.Process) -> bool:
    return _title(process).startswith("postgres: tradestream")


# Where actors share a process (ACTOR_PLACEMENT=together).
LENS, CORE = _actors("the pipeline", "Lens"), _actors("the owners of accounts and records", "Core")
# … and the pipeline has two lanes (LENS_SHARDS=2).
LANES = _actors("the first lane", "Lens0"), _actors("the second lane", "Lens1")
# Where each has its own (spread).
INTAKE, ENRICH, EVALUATE, PUBLISH = (
    _actors(f"lens/{name}", f"Lens{name.capitalize()}") for name in ("intake", "enrich", "evaluate", "publish")
)
GATEWAY = Victim("gateway", "gateway-1", lambda _: True)
GATEWAY_2 = Victim("the second gateway", "gateway-2", lambda _: True)
VALKEY = Victim("Valkey", "valkey", lambda _: True)
POSTGRES = Victim("Postgres", "postgres", _is_first)
BACKEND = Victim("a Postgres backend", "postgres", _is_backend)
RAYLET = Victim("Ray's raylet", "ray", _binary("raylet"), recovery_seconds=120.0)
GCS = Victim("Ray's GCS", "ray", _binary("gcs_server"), recovery_seconds=120.0)

EVERY: Sequence[Victim] = (LENS, CORE, GATEWAY, VALKEY, POSTGRES, BACKEND, RAYLET, GCS)
STAGES: Sequence[Victim] = (INTAKE, ENRICH, EVALUATE, PUBLISH)
