"""`run.py demo` on a real server, the walk through the public document on it, and faults that the walk finds."""

from __future__ import annotations

import asyncio
import copy
import json
import secrets
import signal
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.request import urlopen

import pytest

from config.settings import Settings
from server.demo.command import Options, run
from server.supervisor.process import inherited_environment
from tests.support.services import REPOSITORY, Server, wait_until
from tools.walk_gateway._filled import common, lacking
from tools.walk_gateway._walk import EXAMPLES, ROWS, walk

PAGE = EXAMPLES["GET /api/signals response 200"]
PROFILE = EXAMPLES["GET /api/providers/{} response 200"]


def demo(server: Server, *options: str) -> subprocess.Popen[str]:
    """`run.py demo` with the server's settings."""
    environment = {**inherited_environment(), "PYTHONPATH": str(REPOSITORY), **server.settings}
    command = [sys.executable, str(REPOSITORY / "run.py"), "demo", *options]
    return subprocess.Popen(
        command, env=environment, cwd=REPOSITORY, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


@pytest.mark.slow
def test_a_server_filled_by_the_demo_shows_every_example_of_the_document(tmp_path: Path) -> None:
    with Server(tmp_path / "data") as server:
        server.start().wait_ready(120)
        first, _ = (filling := demo(server, "--once", "--small")).communicate(timeout=240)
        assert filling.returncode == 0, first
        findings = asyncio.run(walk(server.url))
        assert findings.differences == [], findings.table()
        again = demo(server, "--small")
        signals = total_signals(server)
        try:
            wait_until(lambda: total_signals(server) > signals + 2, 120)
        finally:
            again.send_signal(signal.SIGINT)
        second, _ = again.communicate(timeout=30)
        assert again.returncode == 0, second
        assert "signals of the past" in first
        assert "signals of the past" not in second, "it goes on with the community that is there"
        assert "Stopped" in second


def test_the_demo_says_that_nobody_answers(tmp_path: Path) -> None:
    refused = demo(Server(tmp_path / "data"), "--once", "--url", "http://127.0.0.1:9")
    output, _ = refused.communicate(timeout=60)
    assert refused.returncode == 1
    assert "demo: nobody answers at http://127.0.0.1:9" in output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("status", "body"), [(401, b'{"detail": "no"}'), (404, b"gone"), (200, b"<html>"), (200, b"{}")]
)
def test_the_demo_says_that_it_is_another_server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], status: int, body: bytes
) -> None:
    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Other) as other:
        Thread(target=other.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{other.server_port}"
        assert run(Settings.load(None).replace(data_dir=tmp_path / "data"), Options(url=url, once=True)) == 1
        other.shutdown()
    assert f"demo: {url} is not a TradeStream server" in "".join(capsys.readouterr())


def test_the_demo_does_not_run_in_production(tmp_path: Path) -> None:
    server = Server(
        tmp_path / "data",
        ENVIRONMENT="production",
        LOG_KEY_FILE=str(tmp_path / "log.pem"),
        JWT_SECRET=secrets.token_urlsafe(48),
        PASSWORD_PEPPER=secrets.token_urlsafe(48),
        API_URL="https://api.example.com",
        FRONTEND_URL="https://example.com",
        CORS_ORIGINS="https://example.com",
        RESEND_API_KEY="re_" + secrets.token_hex(16),
        DATABASE_URL="postgresql://nobody@127.0.0.1:1/none",
        REDIS_URL="redis://127.0.0.1:1",
        MARKET_DATA="hyperliquid",
    )
    refused = demo(server, "--once")
    output, _ = refused.communicate(timeout=60)
    assert refused.returncode == 1
    assert "ENVIRONMENT is production" in output


def total_signals(server: Server) -> int:
    """Return how many signals are published, by the public list."""
    with urlopen(f"{server.url}/api/signals?limit=1", timeout=5) as response:
        return int(json.load(response)["total"])


def test_every_endpoint_and_example_of_the_document_is_a_row() -> None:
    assert sum(" response " in row for row in ROWS) == 15
    assert sum(" request " in row for row in ROWS) == 8
    assert sum(row.partition(" ")[0] in ("GET", "POST", "PUT", "DELETE") for row in ROWS) == 29 + 23


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("user_id", ""),
        ("bio", None),
        ("banner_url", None),
        ("specialties", []),
        ("stats.win_rate", None),
        ("stats.win_rate", "0.67"),
        ("stats.follower_count", True),
        ("stats", []),
        ("verified_at", "2024-06-15"),
        ("recent_signals", []),
        ("is_following", 1),
    ],
)
def test_the_walk_sees_what_is_not_filled(path: str, value: object) -> None:
    answer = _profile()
    assert lacking(PROFILE, answer) == []
    _place(answer, path)[path.rpartition(".")[2]] = value
    [found] = lacking(PROFILE, answer)
    assert found.startswith(f"{path}: ")


def test_the_walk_sees_what_is_missing_and_which_kinds_are_not_shown() -> None:
    answer = _profile()
    del answer["stats"]["sharpe_ratio"]
    assert lacking(PROFILE, answer) == ["stats.sharpe_ratio: missing"]
    page = _page()
    assert lacking(PAGE, page) == []
    del page["signals"][1]
    assert lacking(PAGE, page) == ["signals.1: none of its kind"]


def test_a_field_that_one_signal_of_the_list_shows_need_not_be_in_every_one() -> None:
    page = _page()
    bare = copy.deepcopy(page["signals"])
    for each in bare:
        each |= {"reactions": {}, "provider": {**each["provider"], "avatar_url": None, "win_rate": None}}
        each["asset_data"].pop("price_change_24h", None)
    half = copy.deepcopy(page["signals"])
    for each in half:
        each |= {"reactions": {}, "commentary": None}
    page["signals"] = [*bare, *half]
    assert [each.partition(":")[0] for each in lacking(PAGE, page)] == [f"signals.{n}.reactions" for n in range(3)]
    page["signals"] += _page()["signals"]
    assert lacking(PAGE, page) == []


def test_a_field_that_no_item_has_is_found() -> None:
    page = _page()
    page["signals"] += _page()["signals"]
    for place, each in enumerate(page["signals"]):
        if place % 2:
            del each["provider"]["name"]
        else:
            each["provider"]["name"] = None
    assert sorted(each.partition(":")[0] for each in lacking(PAGE, page)) == [
        f"signals.{n}.provider.name" for n in range(3)
    ]


def test_a_field_within_something_that_another_lacks_is_lacking_in_both() -> None:
    assert common([["user.avatar_url: null"], ["user: missing", "id: null"]]) == ["user.avatar_url: null"]
    assert common([["user.avatar_url: null"], ["user.name: null"]]) == []


def _page() -> dict[str, Any]:
    """Return the document's own list, with the fields that it abbreviates."""
    page: dict[str, Any] = copy.deepcopy(PAGE)
    for each in page["signals"]:
        each["created_at"] = "2026-02-15T12:34:56.000Z"
        each["reactions"] = {"like": 1}
    return page


def _profile() -> dict[str, Any]:
    """Return the document's own profile, with the fields that it abbreviates."""
    profile: dict[str, Any] = copy.deepcopy(PROFILE)
    profile["recent_signals"] = [{"id": "x"}]
    for name in ("verified_at", "created_at"):
        profile[name] = "2024-06-15T00:00:00.000Z"
    return profile


def _place(document: Any, path: str) -> Any:
    for name in path.split(".")[:-1]:
        document = document[name]
    return document
