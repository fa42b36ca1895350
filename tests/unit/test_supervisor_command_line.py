"""The command line: faults are told all at once, in words, and before anything starts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from config.settings import Settings, describe_settings
from server._doctor import examine
from server._instance import Instance
from server._process import inherited_environment
from server.supervisor import EXAMPLE_BODY, ready_lines
from tests.services import REPOSITORY, free_ports


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """No setting of the machine's, and free ports."""
    for name, _, _ in describe_settings():
        monkeypatch.delenv(name, raising=False)
    port, dashboard_port = free_ports(2)
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    monkeypatch.setenv("PORT", str(port))
    monkeypatch.setenv("RAY_DASHBOARD_PORT", str(dashboard_port))
    monkeypatch.chdir(tmp_path)  # no .env of ours
    return monkeypatch


def run(folder: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run it in `folder`, with its data below."""
    environment = {**inherited_environment(), "DATA_DIR": str(folder / "data"), **settings}
    command = [sys.executable, str(REPOSITORY / "run.py"), *arguments]
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def test_every_fault_of_the_configuration_is_told_and_nothing_starts(tmp_path: Path) -> None:
    faults = {"PORT": "x", "WORKERS": "0", "HEARTBEAT_SECONDS": "-1", "ENVIRONMENT": "production"}
    done = run(tmp_path, "serve", **faults)
    assert done.returncode == 1
    for name in ("PORT: 'x'", "WORKERS: '0'", "HEARTBEAT_SECONDS: '-1'", "DATABASE_URL", "REDIS_URL", "JWT_SECRET"):
        assert f"  {name}" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data").exists()


def test_the_embedded_database_of_a_stopped_server_cannot_be_migrated(tmp_path: Path) -> None:
    done = run(tmp_path, "migrate")
    assert done.returncode == 1
    assert "DATABASE_URL is not set" in done.stderr


def test_the_supervisor_does_not_import_ray() -> None:
    code = "import sys, run, server.supervisor, server._doctor; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=False).returncode == 0


def test_the_doctor_finds_nothing_wrong_here(environment: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    assert examine(said.append) == 0, "\n".join(said)
    assert all(line.startswith("✓") for line in said)


def test_the_doctor_names_what_is_wrong(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("PORT", "70000")
    said: list[str] = []
    assert examine(said.append) == 1
    assert any(line.startswith("✗ settings") and "PORT" in line for line in said)


def test_the_ready_lines_can_be_copied(tmp_path: Path) -> None:
    settings = Settings.load(env_file=None).replace(host="0.0.0.0", port=8123, ray_dashboard_port=0, ray_address=None)
    text = "\n".join(ready_lines(settings, Instance(tmp_path), dashboard_is_up=False))
    assert "http://localhost:8123/api/docs" in text
    assert "curl -N http://localhost:8123/api/signals/stream" in text
    assert f"-d '{EXAMPLE_BODY}'" in text
    assert "Ray dashboard" not in text


def test_the_ready_lines_say_whether_the_dashboard_answers(tmp_path: Path) -> None:
    settings = Settings.load(env_file=None).replace(ray_dashboard_port=8266, ray_address=None)
    for is_up in (False, True):
        [line] = [each for each in ready_lines(settings, Instance(tmp_path), dashboard_is_up=is_up) if ":8266" in each]
        assert "token is in" in line
        assert ("starting" in line) != is_up
