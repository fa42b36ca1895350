"""Prints which routes of RATE_LIMITS are not there, a line each; `server/_preflight.py` runs it."""

from __future__ import annotations

import sys

from config.settings import ConfigurationError, Settings
from server.routes import effective_limits, routes_for


def main() -> int:
    """The exit status: 1 when there is something to say."""
    try:
        settings = Settings.load(env_file=None)
        effective_limits(routes_for(settings), settings)
    except ConfigurationError as error:
        sys.stdout.write("".join(f"{problem}\n" for problem in error.problems if problem.startswith("RATE_LIMITS")))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
