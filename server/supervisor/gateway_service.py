"""Supervise a gateway process: started with the settings as environment, probed through `/ready`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from signal import SIGTERM

import psutil

from config.settings import Settings
from server.supervisor.http_client import http_exchange
from server.supervisor.process import Launch
from server.supervisor.service import NotReady, Run, Service

MARGIN_SECONDS = 3.0  # beyond the drain, for what has no end of its own


class GatewayService(Service):
    """Gateway `number` of `settings.workers`; all of them share one port."""

    start_seconds = 90.0  # on a slow machine its actors start, too
    echoes = True
    final_exit_codes = frozenset({2})  # a configuration that cannot be used

    def __init__(
        self,
        number: int,
        settings: Settings,
        command: Sequence[str],
        environment: Callable[[str], Mapping[str, str]],
    ) -> None:
        """Take `environment`, which makes a child's whole environment from its name."""
        self.name = f"gateway-{number}"
        self.title = f"Gateway {number}" if settings.workers > 1 else "Gateway"
        self.stop_steps = ((SIGTERM, settings.drain_delay_seconds + settings.drain_seconds + MARGIN_SECONDS),)
        self._settings = settings
        self._command = command
        self._environment = environment

    async def prepare(self, run: Run) -> None:
        """Do nothing: a gateway keeps nothing on the disk."""

    def launch(self) -> Launch:
        """Return the command."""
        return Launch(self._command, self._environment(self.name))

    async def probe(self, pid: int) -> str:
        """Request `/ready` of this very process: the kernel gives a connection to any of those that share the port."""
        host, port = loopback(self._settings.host), self._settings.port
        for _ in range(8 * self._settings.workers):
            async with http_exchange(host, port, "/ready") as answer:
                if not _holds_connection(pid, answer.client_port):
                    continue
                if answer.status != 200:
                    raise NotReady(f"/ready answers {answer.status}: {answer.body.decode(errors='replace')[:300]}")
                return f"{self.title} on {self._settings.host}:{port}, pid {pid}"
        raise NotReady("it takes no connection yet")

    def tidy(self) -> None:
        """Do nothing."""


def loopback(host: str) -> str:
    """Return the address that reaches a server of this machine that listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1", "localhost": "127.0.0.1"}.get(host, host)  # noqa: S104 - it is looked up


def address_of(settings: Settings) -> str:
    """Return the URL by which this machine reaches the server."""
    host = loopback(settings.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def _holds_connection(pid: int, client_port: int) -> bool:
    try:
        connections = psutil.Process(pid).net_connections("tcp")
    except psutil.Error as error:
        raise NotReady(str(error)) from None
    return any(each.raddr[1:] == (client_port,) for each in connections)
