"""Disable what one machine does not need of Ray, as a hook (RAY_START_HOOK) that `ray start` runs first."""

from __future__ import annotations

from typing import Any


def configure(parameters: Any, head: bool) -> None:
    """Start no Ray-client server (80 MB, for drivers outside of the cluster) and no dashboard.

    The dashboard is a child of our own (`ray_dashboard.py`): inside `ray start` it takes two thirds of the time, and
    its death would take the whole cluster with it. Measured: 2.2 s instead of 6 to 9, 81 MB less without it.
    """
    from ray._private.node import Node

    parameters.ray_client_server_port = None

    def start_api_server(node: Node, **options: Any) -> None:
        del node, options

    Node.start_api_server = start_api_server
