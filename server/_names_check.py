"""Prints what RATE_LIMITS and ACTOR_PLACEMENT name and is not there, a line each; `server/_preflight.py` runs it."""

from __future__ import annotations

import pickle
import sys

from actors._directory import SPECS
from actors._placement import place
from config.settings import ConfigurationError, Settings
from server.routes import effective_limits, routes_for


def main() -> int:
    """The exit status: 1 when there is something to say. Standard input has the settings."""
    settings: Settings = pickle.load(sys.stdin.buffer)  # noqa: S301 - by our parent process, for this one
    settings.protect_secrets()
    problems: list[str] = []
    for check in (
        lambda: effective_limits(routes_for(settings), settings),
        lambda: place(SPECS, settings.actor_placement),
    ):
        try:
            check()
        except ConfigurationError as error:
            problems += error.problems
    sys.stdout.write("".join(f"{problem}\n" for problem in problems))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
