"""Run Ray's head on this machine: GCS and raylet under `ray start --block`, on the loopback interface, with a token."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from signal import SIGTERM

import psutil

from server.supervisor.http_client import http_get
from server.supervisor.instance import Instance
from server.supervisor.ports import free_ports
from server.supervisor.process import Launch
from server.supervisor.secrets import kept_secret
from server.supervisor.service import NotReady, Run, Service, ServiceError

OBJECT_STORE_BYTES = 120 << 20  # batches of messages are small and short-lived; Ray's default is a third of the memory
LOG_BYTES = 10 << 20
LOG_BACKUPS = 2


class RayHead(Service):
    """A local Ray cluster of one node. `address` is new at each start, so none joins the remains of the last one."""

    name = "ray"
    title = "Ray"
    stop_steps = ((SIGTERM, 12.0),)
    start_seconds = 60.0
    watch_seconds = 2.0

    def __init__(self, instance: Instance, environment: Callable[[str], Mapping[str, str]]) -> None:
        """Take `environment`, which makes a child's whole environment from its name once `address` is known."""
        self._instance = instance
        self._environment = environment
        self.sessions = instance.data_dir / "ray" / "sessions"
        # Ray's sockets lie below it, with 66 bytes of names, and only 107 fit: a short way to the same place.
        self._short = instance.runtime_dir / "ray"
        self._port = self._health_port = 0

    @property
    def address(self) -> str:
        """Return the GCS's `host:port`, for `ray.init`; its port is chosen by `prepare`."""
        return f"127.0.0.1:{self._port}"

    @property
    def has_port(self) -> bool:
        """Whether `address` is known. Children that start before Ray (a migration) do not join it."""
        return self._port != 0

    async def prepare(self, run: Run) -> None:
        """Remove the last session, keep its logs, and choose ports."""
        self.sessions.mkdir(parents=True, exist_ok=True)
        self.sessions.parent.chmod(0o700)  # Ray opens its own directory to everybody
        self._short.unlink(missing_ok=True)
        self._short.symlink_to(self.sessions)
        self.tidy()
        kept_secret(_token_path(self._instance))
        self._port, self._health_port = free_ports(2)

    def launch(self) -> Launch:
        """Return `ray start --block`, which ends when a part of it has died. The kernel chooses all its other ports."""
        argv = [
            *(str(ray_binary()), "start", "--head", "--block", "--disable-usage-stats", "--log-color=false"),
            *(
                f"--port={self._port}",
                f"--temp-dir={self._short}",
                f"--dashboard-agent-listen-port={self._health_port}",
            ),
            *("--min-worker-port=0", "--max-worker-port=0", f"--object-store-memory={OBJECT_STORE_BYTES}"),
            *("--no-monitor", "--include-log-monitor=false", "--include-dashboard=false"),
            f"--num-cpus={os.cpu_count() or 1}",
        ]
        environment = {
            **self._environment(self.name),
            **ray_environment(self._instance),
            "RAY_START_HOOK": "server.supervisor.ray_hook.configure",
            "RAY_worker_niceness": "0",  # workers at nice 15 made a call 20 times slower under load
            # Nothing to drain: gateways have stopped, and actors acknowledge only what is committed.
            "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
            "RAY_ROTATION_MAX_BYTES": str(LOG_BYTES),
            "RAY_ROTATION_BACKUP_COUNT": str(LOG_BACKUPS),
            "PYTHONWARNINGS": "ignore",
        }
        return Launch(argv, environment, self.sessions)

    def broken(self, pid: int) -> str | None:
        """Name a part that ended with SIGTERM: `ray start` takes that for intended, and waits on."""
        try:
            alive = {each.name() for each in psutil.Process(pid).children() if each.status() != psutil.STATUS_ZOMBIE}
        except psutil.Error as error:
            return str(error)
        missing = {"gcs_server", "raylet"} - alive
        return f"without its {' and '.join(sorted(missing))}" if missing else None

    async def probe(self, pid: int) -> str:
        """Ask the node's agent, which asks the GCS and the raylet."""
        headers = {"Authorization": f"Bearer {ray_token(self._instance)}"}
        answer = await http_get("127.0.0.1", self._health_port, "/api/healthz", headers=headers)
        if answer.status != 200:
            raise NotReady(answer.body.decode(errors="replace").replace("\n", ", "))
        return f"Ray {importlib.metadata.version('ray')} at {self.address}"

    def tidy(self) -> None:
        """Remove earlier sessions, and everything of the last one but its logs."""
        latest = (self.sessions / "session_latest").resolve().name
        for path in self.sessions.iterdir():
            if path.is_symlink() or path.is_file():
                if path.name != "session_latest":
                    path.unlink(missing_ok=True)
            elif path.name != latest:
                shutil.rmtree(path, ignore_errors=True)
            else:
                for part in path.iterdir():
                    if part.name != "logs":
                        _remove(part)


def ray_environment(instance: Instance) -> dict[str, str]:
    """Return the environment that our processes need to join the local Ray, and Ray's own to agree on it."""
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(_token_path(instance)),
        # Ray's name for "this machine only": it and its drivers use 127.0.0.1, not the address of a network card.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_USAGE_STATS_ENABLED": "0",  # would need the internet
    }


def ray_token(instance: Instance) -> str:
    """Return the token that the local Ray requires of every client."""
    return _token_path(instance).read_text()


def ray_binary() -> Path:
    """Return the path of this virtual environment's `ray` command."""
    path = Path(sys.executable).with_name("ray")
    if not path.exists():
        raise ServiceError("the package ray[default] is not installed")
    return path


def _token_path(instance: Instance) -> Path:
    return instance.data_dir / "ray.token"


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
