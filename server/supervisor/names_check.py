"""Print the names in RATE_LIMITS and ACTOR_PLACEMENT that do not exist, a line each; run by the preflight checks."""

from __future__ import annotations

import sys

import orjson

from actors._runtime.placement import place
from actors._runtime.registry import specs_of
from config.settings import ConfigurationError, Settings
from server.routes import effective_limits, routes_for


def main() -> int:
    """Return the exit status, 1 when a line is printed.

    Standard input: [ENVIRONMENT, RATE_LIMITS, ACTOR_PLACEMENT, LENS_SHARDS].
    """
    environment, limits, placement, shards = orjson.loads(sys.stdin.buffer.read())
    settings = Settings.load(env_file=None).replace(
        environment=environment,
        rate_limits=tuple((route, limit) for route, limit in limits),
        actor_placement=placement,
        lens_shards=shards,
    )
    problems: list[str] = []
    for check in (
        lambda: effective_limits(routes_for(settings), settings),
        lambda: place(specs_of(settings), settings.actor_placement),
    ):
        try:
            check()
        except ConfigurationError as error:
            problems += error.problems
    sys.stdout.write("".join(f"{problem}\n" for problem in problems))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
