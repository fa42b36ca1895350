"""The command: a table of all rows; exit code 1 when the server differs from the document anywhere."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tools.walk_lens._client import Findings
from tools.walk_lens._walk import walk
from tools.walk_lens._world import World, own_world


def main() -> int:
    """Walk; print; judge."""
    parser = argparse.ArgumentParser("python -m tools.walk_lens", description=__doc__)
    parser.add_argument("url", nargs="?", help="a running server's; without it a system of its own is started")
    findings = asyncio.run(_walk(parser.parse_args().url))
    walked = len(findings.rows) - len(findings.not_shown)
    sys.stdout.write(f"{findings.table()}\n{walked} rows walked, {len(findings.not_shown)} not shown, ")
    sys.stdout.write(f"{len(findings.differences)} differences\n")
    return 1 if findings.differences else 0


async def _walk(url: str | None) -> Findings:
    if url is not None:
        return await walk(World(url.rstrip("/")))
    with tempfile.TemporaryDirectory() as folder:
        async with own_world(Path(folder)) as world:
            return await walk(world)


if __name__ == "__main__":
    sys.exit(main())
