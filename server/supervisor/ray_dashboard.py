"""Run Ray's dashboard as a child of its own: it starts beside the gateways, and its death ends nothing else."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from signal import SIGTERM

from server.supervisor.http_client import http_get
from server.supervisor.instance import Instance
from server.supervisor.ports import free_ports
from server.supervisor.process import Launch
from server.supervisor.ray_head import LOG_BACKUPS, LOG_BYTES, ray_environment, ray_token
from server.supervisor.service import NotReady, Run, Service


class RayDashboard(Service):
    """The dashboard of the local Ray, on the loopback interface; it asks for the token."""

    name = "ray-dashboard"
    title = "Ray dashboard"
    stop_steps = ((SIGTERM, 3.0),)

    def __init__(
        self,
        instance: Instance,
        port: int,
        address: Callable[[], str],
        environment: Callable[[str], Mapping[str, str]],
    ) -> None:
        """Take `address`, which returns the address of the running head's GCS."""
        self._instance = instance
        self._port = port
        self._address = address
        self._environment = environment

    async def prepare(self, run: Run) -> None:
        """Do nothing: the head has made its directories."""

    def launch(self) -> Launch:
        """Return the command: this module, which becomes the dashboard."""
        environment = {
            **self._environment(self.name),
            **ray_environment(self._instance),
            "DASHBOARD_METRIC_PORT": str(free_ports(1)[0]),  # a fixed one would keep a second instance from starting
        }
        environment.pop("PROMETHEUS_MULTIPROC_DIR", None)  # it would write its own metrics among ours
        argv = [
            sys.executable,
            "-m",
            __name__,
            self._address(),
            str(self._port),
            str(self._instance.runtime_dir / "ray"),
        ]
        return Launch(argv, environment)

    async def probe(self, pid: int) -> str:
        """Ask the dashboard for the health of the GCS."""
        headers = {"Authorization": f"Bearer {ray_token(self._instance)}"}
        answer = await http_get("127.0.0.1", self._port, "/api/gcs_healthz", headers=headers)
        if answer.status != 200:
            raise NotReady(f"it answers {answer.status}")
        return f"Ray dashboard on 127.0.0.1:{self._port}"

    def tidy(self) -> None:
        """Do nothing."""


def become_dashboard(gcs_address: str, port: str, directory: str) -> None:
    """Become Ray's own dashboard program for the cluster at `gcs_address` whose temporary directory is `directory`."""
    import ray
    from ray._raylet import GcsClient  # type: ignore[attr-defined]  # left out of its stub

    session = Path(directory) / (Path(directory) / "session_latest").resolve().name
    program = Path(ray.__file__).parent / "dashboard" / "dashboard.py"
    arguments = [
        *("--host=127.0.0.1", f"--port={port}", "--node-ip-address=127.0.0.1", f"--gcs-address={gcs_address}"),
        f"--cluster-id-hex={GcsClient(address=gcs_address).cluster_id.hex()}",
        *(f"--temp-dir={directory}", f"--session-dir={session}", f"--log-dir={session / 'logs'}"),
        *(f"--logging-rotate-bytes={LOG_BYTES}", f"--logging-rotate-backup-count={LOG_BACKUPS}"),
    ]
    # Executed, not imported: its workers are forked from a fresh interpreter that imports its main module.
    os.execv(sys.executable, [sys.executable, str(program), *arguments])  # noqa: S606


if __name__ == "__main__":
    become_dashboard(*sys.argv[1:])
