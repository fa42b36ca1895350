"""Compose a supervisor's plan: the services that the settings require, in the order of their dependence."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from config.settings import Settings
from server.supervisor.embedded_postgres import EmbeddedPostgres, connections_for
from server.supervisor.embedded_valkey import EmbeddedValkey
from server.supervisor.gateway_service import GatewayService
from server.supervisor.instance import Instance
from server.supervisor.process import Launch, inherited_environment
from server.supervisor.ray_dashboard import RayDashboard
from server.supervisor.ray_head import RayHead, ray_environment
from server.supervisor.service import Service

GATEWAY_COMMAND = (sys.executable, "-m", "server.main")
MIGRATE_COMMAND = (sys.executable, "-m", "run", "migrate")

_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Plan:
    """Services that start in the order of the fields and stop in reverse; only the gateways are required."""

    gateways: Sequence[Service]
    stores: Sequence[Service] = ()  # restarted alone: their clients reconnect
    migration: Launch | None = None  # runs to its end, once
    ray: Service | None = None  # its end is the gateways' end, too
    dashboard: Service | None = None  # nothing waits for it
    actor_logs: Path | None = None  # Ray's directory of sessions


def compose(
    settings: Settings,
    instance: Instance,
    *,
    gateway_command: Sequence[str] = GATEWAY_COMMAND,
    migrate_command: Sequence[str] = MIGRATE_COMMAND,
) -> Plan:
    """Return the plan for `settings`: an embedded server for each address that they do not name."""
    postgres = (
        EmbeddedPostgres(instance, connections=connections_for(settings)) if settings.database_url is None else None
    )
    valkey = EmbeddedValkey(instance) if settings.redis_url is None else None
    settings = settings.replace(
        data_dir=instance.data_dir,
        # Ray's processes have a working directory of their own.
        log_key_file=settings.log_key_file and settings.log_key_file.absolute(),
        splits_file=settings.splits_file and settings.splits_file.absolute(),
        database_url=postgres.url if postgres else settings.database_url,
        redis_url=valkey.url if valkey else settings.redis_url,
    )

    def environment(child: str) -> dict[str, str]:
        joined = settings.replace(ray_address=head.address) if head is not None and head.has_port else settings
        return {
            **inherited_environment(),
            **(ray_environment(instance) if head is not None else {}),
            **joined.to_environment(),
            **importable(),
            **instance.marks(child),
            "PROMETHEUS_MULTIPROC_DIR": str(instance.metrics_dir),
        }

    head = RayHead(instance, environment) if settings.ray_address is None else None
    dashboard = None
    if head is not None and settings.ray_dashboard_port:
        dashboard = RayDashboard(instance, settings.ray_dashboard_port, lambda: head.address, environment)
    return Plan(
        stores=[each for each in (postgres, valkey) if each is not None],
        migration=Launch(migrate_command, environment("migrate")),
        ray=head,
        dashboard=dashboard,
        actor_logs=head.sessions if head is not None else None,
        gateways=[GatewayService(n + 1, settings, gateway_command, environment) for n in range(settings.workers)],
    )


def importable() -> dict[str, str]:
    """Return the environment by which Ray's workers, which start elsewhere, import this repository; {} if installed."""
    if _ROOT.name == "site-packages":
        return {}
    inherited = inherited_environment().get("PYTHONPATH")
    return {"PYTHONPATH": f"{_ROOT}:{inherited}" if inherited else str(_ROOT)}
