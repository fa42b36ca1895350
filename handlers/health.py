"""Serve liveness, readiness and metrics."""

from __future__ import annotations

from handlers._http.base import GatewayHandler
from handlers._http.endpoint import endpoint
from schemas.health import Health, Readiness

_ALIVE = {"status": "ok"}


class Healthy(GatewayHandler):
    """`/health`"""

    while_starting = True

    @endpoint("Whether the process answers", responds=Health())
    async def get(self) -> object:
        """Checks no dependency: one that is unavailable is no reason to restart this process."""
        return _ALIVE


class Ready(GatewayHandler):
    """`/ready`"""

    while_starting = True

    @endpoint("Whether the process can do its work now", responds=Readiness(), others={503: Readiness()})
    async def get(self) -> object:
        """503 while starting, draining, or without Postgres or the actors; the body says which."""
        report = await self.gateway.readiness.report(self.gateway)
        if not report.is_ready:
            self.set_status(503)
        return report.document


class Metrics(GatewayHandler):
    """`/metrics`"""

    while_starting = True

    @endpoint("Metrics of all processes of this node", media_type="text/plain")
    async def get(self) -> None:
        """Prometheus' text format."""
        text, media_type = await self.gateway.collect_metrics()
        self.set_header("Content-Type", media_type)
        self.finish(text)
