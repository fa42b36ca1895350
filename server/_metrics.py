"""Collect `/metrics` over all processes of the node, which share a folder of memory-mapped files.

A counter must never fall, and files of ended processes must not pile up: their counts move into a file of their own.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector

from config.metrics import http_requests

ENDED = "ended"  # in a file's name where the others have a pid


async def collect_metrics() -> tuple[bytes, str]:
    """Return the text of all metrics, and its media type. Reads files in a thread."""
    http_requests.write()
    folder = _folder()
    if folder is None:  # this process alone
        return generate_latest(REGISTRY), CONTENT_TYPE_LATEST
    return await asyncio.to_thread(_collect, folder), CONTENT_TYPE_LATEST


def _folder() -> Path | None:
    # prometheus_client's own variable: it reads it by itself, in every process that the supervisor starts.
    path = os.environ.get("PROMETHEUS_MULTIPROC_DIR")  # noqa: TID251
    return Path(path) if path else None


def _collect(folder: Path) -> bytes:
    registry = CollectorRegistry()
    with _locked(folder):
        fold_ended_processes(folder)
        MultiProcessCollector(registry, str(folder))
        return generate_latest(registry)


def fold_ended_processes(folder: Path) -> None:
    """Fold counters and histograms of ended processes into one file each; remove their gauges."""
    for path in folder.glob("*_*.db"):
        kind, _, owner = path.stem.rpartition("_")
        if not owner.isdigit() or psutil.pid_exists(int(owner)):
            continue
        if kind in {"counter", "histogram"}:
            _fold(path, folder / f"{kind}_{ENDED}.db")
        path.unlink(missing_ok=True)


def _fold(source: Path, target: Path) -> None:
    ended = MmapedDict(str(target))
    try:
        for key, value, timestamp, _ in MmapedDict.read_all_values_from_file(str(source)):
            before, _ = ended.read_value(key)
            ended.write_value(key, before + value, timestamp)
    finally:
        ended.close()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    # Several gateways are scraped at once, and none may add up while a file's counts are in two places.
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
