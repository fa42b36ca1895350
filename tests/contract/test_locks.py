"""`locks/` agrees with `setup.py` and `constraints.txt`, with hashes, so that the tested files are installed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.services import REPOSITORY

LOCKS = sorted((REPOSITORY / "locks").glob("*.txt"))
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)


def pins(path: Path) -> dict[str, str]:
    """The versions by the names of the packages."""
    return {re.sub("[-_.]+", "-", name).lower(): version for name, version in _PIN.findall(path.read_text())}


@pytest.mark.parametrize("path", LOCKS, ids=[each.stem for each in LOCKS])
def test_a_lock_has_the_versions_that_were_tested_and_a_hash_for_each(path: Path) -> None:
    tested, locked = pins(REPOSITORY / "constraints.txt"), pins(path)
    assert {name: version for name, version in locked.items() if tested.get(name, version) != version} == {}, (
        "run: make locks"
    )
    for requirement in re.split(r"\n(?=[A-Za-z0-9])", path.read_text().strip()):
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", requirement), requirement.splitlines()[0]


@pytest.mark.parametrize(
    ("lock", "lists"),
    [("runtime", ["RUNTIME"]), ("extras", ["RUNTIME", "EVERY_MODEL", "KAFKA"]), ("dev", ["RUNTIME", "DEVELOPMENT"])],
)
def test_declared_requirements_are_locked_with_the_build_tools(lock: str, lists: list[str]) -> None:
    declared: dict[str, list[str]] = {}
    source = (REPOSITORY / "setup.py").read_text().partition("\nsetup(")[0]
    exec(compile(source.replace("from setuptools import setup", ""), "setup.py", "exec"), declared)
    wanted = {
        re.sub("[-_.]+", "-", re.split(r"[\[<>=; ]", each)[0]).lower() for name in lists for each in declared[name]
    }
    assert (wanted | {"setuptools"}) - set(pins(REPOSITORY / "locks" / f"{lock}.txt")) == set(), "run: make locks"


def test_every_installed_file_has_a_hash() -> None:
    """The kind: one way to install that trusts the index without a hash."""
    for name in ("Makefile", "Dockerfile", "README.md", "docs/ways-in.md"):
        text = (REPOSITORY / name).read_text().replace("\\\n", " ")
        for line in text.splitlines():
            if "pip install" not in line and "pip wheel" not in line:
                continue
            is_ours = "--no-deps" in line and line.rstrip().endswith((" .", "-e ."))
            is_making = "uv" in line or "freeze" in line or "'.[dev,bench]'" in line  # of the locks themselves
            assert is_ours or is_making or "--require-hashes" in line or "--no-index" in line or ":= " in line, line
