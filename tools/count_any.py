"""Counts the name `Any` in the source, and fails above the number in pyproject.toml, which may only fall.

`python -m tools.count_any` is a part of `make check`; `--each` shows the files, the most first.
"""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from tests.support.services import REPOSITORY

LAYERS = ("actors", "config", "db", "handlers", "schemas", "server")


def source_files() -> Iterator[Path]:
    """The project's source, without its tests."""
    yield REPOSITORY / "run.py"
    for layer in LAYERS:
        yield from sorted((REPOSITORY / layer).rglob("*.py"))


def count_any(source: str) -> int:
    """Count how often the name is used, without texts, comments and imports."""
    return sum(isinstance(node, ast.Name) and node.id == "Any" for node in ast.walk(ast.parse(source)))


def main() -> int:
    """Compare the count with the bound; returns the exit status."""
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    most = settings["tool"]["tradestream"]["most_any"]
    counts = {path: count_any(path.read_text()) for path in source_files()}
    total = sum(counts.values())
    if "--each" in sys.argv:
        for path, count in sorted(counts.items(), key=lambda each: -each[1]):
            if count:
                sys.stdout.write(f"{count:4} {path.relative_to(REPOSITORY)}\n")
    sys.stdout.write(f"Any: {total} of at most {most}\n")
    if total > most:
        sys.stdout.write("Use a type of config/documents.py, `object`, or a class; the bound may only fall.\n")
    return int(total > most)


if __name__ == "__main__":
    sys.exit(main())
