"""Print what `mutmut run` has found, by module: `python -m tools.mutation_score`; exit code 1 below the least score.

A mutant is killed when a test fails on it, or hangs. `mutmut results` names those that survived, `mutmut show NAME`
shows one.
"""

from __future__ import annotations

import json
import sys
import tomllib
from collections import Counter
from pathlib import Path

from mutmut.stats import status_by_exit_code

LEAST_PERCENT = 85
KILLED = ("killed", "timeout", "segfault")


def main() -> int:
    """Read the result of each mutated module; print and judge."""
    settings = tomllib.loads(Path("pyproject.toml").read_text())["tool"]["mutmut"]
    total: Counter[str] = Counter()
    for module in settings["only_mutate"]:
        codes = json.loads(Path(f"mutants/{module}.meta").read_text())["exit_code_by_key"]
        found = Counter("killed" if status_by_exit_code[code] in KILLED else "alive" for code in codes.values())
        total += found
        sys.stdout.write(f"{module:40}{_score(found)}\n")
    sys.stdout.write(f"{'all':40}{_score(total)}\n")
    return 1 if total["killed"] * 100 < total.total() * LEAST_PERCENT else 0


def _score(found: Counter[str]) -> str:
    return f"{found['killed']:5} of {found.total():5} mutants killed, {found['killed'] / max(found.total(), 1):6.1%}"


if __name__ == "__main__":
    sys.exit(main())
