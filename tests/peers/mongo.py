"""A server that speaks MongoDB's protocol and keeps its documents on the disk: it can be killed and come back.

with MongoServer(tmp_path) as mongo:
    settings.replace(mongo_url=mongo.url)
    mongo.kill()
    mongo.start()
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from server.supervisor.process import inherited_environment
from tests.support.services import free_ports, wait_until


class MongoServer:
    """A MongoDB server in a process of its own, on a free port of loopback that stays the same over restarts."""

    def __init__(self, root: Path, *, durable: bool = True) -> None:
        self._durable = durable
        self._root = root / "mongo"
        self._process: subprocess.Popen[bytes] | None = None
        [self.port] = free_ports(1)
        self.url = f"mongodb://127.0.0.1:{self.port}/lens"

    def start(self) -> Self:
        """Start it; returns when it answers."""
        self._root.mkdir(parents=True, exist_ok=True)
        argv = [sys.executable, "-m", "secantus", "--host", "127.0.0.1", "--port", str(self.port)]
        argv += ["--storage-path", str(self._root / "data"), "--cache-size", "64M", "--log-level", "WARNING"]
        if self._durable:
            argv += ["--sync-on-commit"]  # acknowledged writes survive SIGKILL
        with (self._root / "log").open("ab") as log:
            # The working directory: a configuration file in another one is not ours.
            self._process = subprocess.Popen(
                argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self._root, env=inherited_environment()
            )
        try:
            wait_until(self._answers, 20)
        except TimeoutError:
            raise AssertionError((self._root / "log").read_text(errors="replace")) from None
        return self

    def kill(self) -> None:
        """Send SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)

    def freeze(self) -> None:
        """Stop the server's answers; it still listens."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let the server go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def documents(self) -> list[dict[str, Any]]:
        """Return the archive as an operator's own client sees it, in the order of the ids."""
        with self._client() as client:
            return list(client["lens"]["lens_archive"].find().sort("_id", 1))

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._root / "log").read_text(errors="replace")
        try:
            with self._client() as client:
                client.admin.command("ping")
        except PyMongoError:
            return False
        return True

    def _client(self) -> MongoClient[dict[str, Any]]:
        return MongoClient(self.url, serverSelectionTimeoutMS=500, uuidRepresentation="standard", tz_aware=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self.thaw()
            self.kill()
