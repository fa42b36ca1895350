"""The command: a table of all rows; exit code 1 when the server lacks anything that the document shows."""

from __future__ import annotations

import argparse
import asyncio
import sys

from config.settings import Settings
from tools.walk_gateway._walk import walk


def main() -> int:
    """Walk; print; judge."""
    parser = argparse.ArgumentParser(".venv/bin/python -m tools.walk_gateway", description=__doc__)
    parser.add_argument("url", nargs="?", help="a server that `run.py demo` has filled; default: HOST and PORT")
    settings = Settings.load()
    url = parser.parse_args().url or f"http://{settings.host}:{settings.port}"
    findings = asyncio.run(walk(url))
    sys.stdout.write(f"{findings.table()}\n{len(findings.rows)} rows walked, {len(findings.differences)} differences\n")
    return 1 if findings.differences else 0


if __name__ == "__main__":
    sys.exit(main())
