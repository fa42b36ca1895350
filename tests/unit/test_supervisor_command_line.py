"""The command line: faults are reported all at once, in words, and before anything starts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from config.settings import Settings, describe_settings
from server.supervisor.doctor import examine
from server.supervisor.instance import Instance
from server.supervisor.process import inherited_environment
from server.supervisor.supervisor import EXAMPLE_BODY, ready_lines
from tests.support.services import REPOSITORY, free_ports


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """Remove the machine's own settings, and set free ports."""
    for name, _, _ in describe_settings():
        monkeypatch.delenv(name, raising=False)
    port, dashboard_port = free_ports(2)
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    monkeypatch.setenv("PORT", str(port))
    monkeypatch.setenv("RAY_DASHBOARD_PORT", str(dashboard_port))
    monkeypatch.chdir(tmp_path)  # no .env of ours
    return monkeypatch


def run(folder: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the command in `folder`, with its data below."""
    environment = {**inherited_environment(), "DATA_DIR": str(folder / "data"), **settings}
    command = [sys.executable, str(REPOSITORY / "run.py"), *arguments]
    return subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, errors="replace", timeout=60, check=False
    )


def test_every_fault_of_the_configuration_is_told_and_nothing_starts(tmp_path: Path) -> None:
    faults = {"PORT": "x", "WORKERS": "0", "HEARTBEAT_SECONDS": "-1", "ENVIRONMENT": "production"}
    done = run(tmp_path, "serve", **faults)
    assert done.returncode == 1
    for name in ("PORT: 'x'", "WORKERS: '0'", "HEARTBEAT_SECONDS: '-1'", "DATABASE_URL", "REDIS_URL", "JWT_SECRET"):
        assert f"  {name}" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("command", ["serve", "migrate", "demo", "doctor"])
def test_no_command_ends_in_a_traceback_over_a_bad_setting(tmp_path: Path, command: str) -> None:
    """The kind: a setting that is fine for its parser, and that something else trips over when it is used."""
    (tmp_path / ".env").write_text("PORT 9001\nLENS_RETRYS=1\n")
    done = run(tmp_path, command, REDIS_URL="foo", RAY_ADDRESS="foo", GITHUB_CLIENT_ID="x", DATABASE_URL="db")
    said = done.stdout + done.stderr
    assert done.returncode == 1
    for each in ("line 1 is not NAME=value", "did you mean LENS_RETRIES?", "REDIS_URL: ", "RAY_ADDRESS: 'foo'"):
        assert each in said
    assert "DATABASE_URL: " in said
    assert "GITHUB_CLIENT_SECRET: is not set" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("file", "is no directory: it is a file"),
        ("below a file", "is no directory: {0} is a file"),
        ("nowhere", "is a link that leads nowhere"),
        ("no place", "cannot be written"),
    ],
)
def test_a_data_directory_that_cannot_be_is_told_with_everything_else(tmp_path: Path, kind: str, said: str) -> None:
    place = tmp_path / "data"
    if kind == "nowhere":
        place.symlink_to(tmp_path / "gone")
    elif kind != "no place":
        place.touch()
    chosen = {"below a file": place / "x", "no place": Path("/proc/tradestream")}.get(kind, place)
    port = str(free_ports(1)[0])
    limits = "GET /api/signal=3,GET /api/signals=9"
    done = run(tmp_path, DATA_DIR=str(chosen), PORT=port, RATE_LIMITS=limits, HOST="nowhere.invalid")
    assert done.returncode == 1
    assert f"DATA_DIR: {str(chosen)!r} " in done.stderr
    assert said.format(place) in done.stderr
    assert "HOST: 'nowhere.invalid' is no address" in done.stderr
    assert "RATE_LIMITS: there is no route 'GET /api/signal'; did you mean 'GET /api/signals'?" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["serve", "doctor"])
def test_names_that_only_the_code_knows_are_told_with_whatever_else_is_wrong(tmp_path: Path, command: str) -> None:
    """The kind: a setting that names something in the code, so that only a server process notices a wrong name."""
    (tmp_path / ".env").write_text("LENS_RETRYS=1\n")
    faults = {"RATE_LIMITS": "GET /api/signal=3", "ACTOR_PLACEMENT": "own=prviders", "PORT": "x", "LENS_RETRIE": "2"}
    done = run(tmp_path, command, **faults, ENVIRONMENT="production", GITHUB_CLIENT_ID="x")
    said = done.stdout + done.stderr
    assert done.returncode == 1
    for each in (
        *("PORT: 'x'", "LENS_RETRYS: ", "LENS_RETRIE: ", "DATABASE_URL: ", "GITHUB_CLIENT_SECRET: "),
        "RATE_LIMITS: there is no route 'GET /api/signal'; did you mean 'GET /api/signals'?",
        "ACTOR_PLACEMENT: 'prviders' is no kind of actor; there are ",
    ):
        assert each in said
    assert "Traceback" not in said
    assert not (tmp_path / "data").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_data_directory_is_told(tmp_path: Path) -> None:
    place = tmp_path / "data"
    place.mkdir(mode=0o500)
    done = run(tmp_path)
    assert "cannot be written: permission denied" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "ascii:strict", "latin-1"])
def test_output_that_knows_only_ascii_costs_no_more_than_characters(tmp_path: Path, encoding: str) -> None:
    """The kind: what we print is UTF-8, and the stream that we print to is not."""
    done = run(tmp_path, "doctor", PYTHONIOENCODING=encoding, PORT="x", API_URL="ü")
    assert done.returncode == 1
    assert "x settings      PORT: 'x' is not a whole number" in done.stdout
    assert "+ Python" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("stream", [">&-", "2>&-", "<&- >&- 2>&-", "> /dev/full", "| true"])
def test_streams_that_are_closed_or_broken_end_in_no_traceback(tmp_path: Path, stream: str) -> None:
    environment = {**inherited_environment(), "DATA_DIR": str(tmp_path / "data"), "PORT": "x"}
    command = f"{sys.executable} {REPOSITORY / 'run.py'} doctor {stream}"
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stdout + done.stderr
    assert "Exception ignored" not in done.stderr


def test_a_demo_without_a_server_is_told_what_to_do(tmp_path: Path) -> None:
    done = run(tmp_path, "demo", PORT=str(free_ports(1)[0]))
    assert done.returncode == 1
    assert "nobody answers at http://127.0.0.1:" in done.stderr
    assert "make run" in done.stderr


def test_the_embedded_database_of_a_stopped_server_cannot_be_migrated(tmp_path: Path) -> None:
    done = run(tmp_path, "migrate")
    assert done.returncode == 1
    assert "DATABASE_URL is not set" in done.stderr


def test_the_supervisor_does_not_import_ray() -> None:
    code = "import sys, run, server.supervisor.supervisor, server.supervisor.doctor; sys.exit('ray' in sys.modules)"
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


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["verify"], "verify log, or verify provider ID"),
        (["verify", "provider"], "verify log, or verify provider ID"),
        (["verify", "provider", "x"], "'x' is no provider's id"),
        (["verify", "log", "--once"], "--once: not of verify"),
        (["serve", "log"], "arguments: not of serve"),
        (["witness"], "witness URL"),
        (["witness", "http://a", "http://b", "--key", "k"], "--key is the key of one log"),
    ],
)
def test_what_verify_and_witness_are_told_is_checked(tmp_path: Path, arguments: list[str], said: str) -> None:
    done = run(tmp_path, *arguments)
    assert done.returncode == 2
    assert said in done.stderr


def test_verifying_a_server_that_is_not_there_says_so(tmp_path: Path) -> None:
    done = run(tmp_path, "verify", "log", "--url", f"http://127.0.0.1:{free_ports(1)[0]}", XDG_CACHE_HOME=str(tmp_path))
    assert done.returncode == 2
    assert "/log/key does not answer" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_key_of_the_log_that_cannot_be_read_is_told_with_everything_else(tmp_path: Path) -> None:
    done = run(tmp_path, "serve", LOG_KEY_FILE="missing.pem", WORKERS="0")
    assert done.returncode == 1
    assert "  WORKERS: '0'" in done.stderr
    assert "  LOG_KEY_FILE: 'missing.pem' cannot be read: no such file or directory" in done.stderr
