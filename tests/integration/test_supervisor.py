"""A whole server under its supervisor is killed, stopped, started twice; only the gateway is a stand-in."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import select
import socket
import sys
from pathlib import Path
from urllib.request import urlopen

import asyncpg
import psutil
import pytest

from server.supervisor.instance import CHILD_MARK
from tests.support.services import REPOSITORY, Server, free_ports, status_of, wait_until

COMMAND = (sys.executable, "-m", "tests.integration.stand_in")
NO_RAY = {"RAY_ADDRESS": "127.0.0.1:1"}  # the stand-in joins none


def server(data_dir: Path, **settings: str) -> Server:
    """Return a server that is not started, with the stand-in as its gateway."""
    return Server(data_dir, command=COMMAND, **settings)


@pytest.fixture
def long_path(tmp_path: Path) -> Path:
    """Return a data directory whose path is too long for a Unix socket."""
    return tmp_path / ("long" * 20) / ("path" * 20) / "data"


def test_a_whole_system_starts_is_repaired_and_stops_without_a_trace(long_path: Path) -> None:
    with server(long_path) as running:
        running.start().wait_ready()
        first_ray = gateway_says(running)["ray"]
        execute(running, "CREATE TABLE kept (note text)", "INSERT INTO kept VALUES ('here')")

        kill(running, "postgres")
        wait_until(lambda: notes(running) == ["here"])

        kill(running, "gateway-1")
        wait_until(lambda: running.output.count("Gateway on") == 2)
        assert status_of(f"{running.url}/ready") == 200

        raylet = next(each for each in running.children("ray") if each.name() == "raylet")
        raylet.kill()
        wait_until(lambda: running.output.count("Gateway on") == 3, 40)
        assert gateway_says(running)["ray"] != first_ray
        assert not raylet.is_running()

        assert running.stop() == 0
        assert traces(running) == []


def test_the_children_of_a_killed_supervisor_are_ended_and_its_data_kept(tmp_path: Path) -> None:
    with server(tmp_path / "data") as running:
        running.start().wait_ready()
        execute(running, "CREATE TABLE kept (note text)", "INSERT INTO kept VALUES ('here')")
        # A process marked as ours, but neither a child nor in the process group of one, as Ray's agents can be.
        stray = start_stray(running)
        left = running.children()
        assert {child_name(each) for each in left} >= {"valkey", "ray", "gateway-1", "stray"}

        running.kill()
        running.start().wait_ready()

        gone = psutil.wait_procs(left, timeout=0)[1]
        assert gone == []
        assert stray not in {each.pid for each in running.children()}
        assert notes(running) == ["here"]
        assert len([each for each in running.children("postgres") if "-D" in each.cmdline()]) == 1
        assert running.stop() == 0
        assert traces(running) == []


def test_a_second_instance_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    with server(tmp_path / "data", **NO_RAY) as first:
        first.start().wait_ready()
        second = server(tmp_path / "data", **NO_RAY)
        second.start()
        assert second.wait(20) == 1
        assert f"another instance (pid {first.pid}) runs on {first.data_dir}" in second.output
        assert status_of(f"{first.url}/ready") == 200
        assert first.stop() == 0


def test_a_port_that_is_taken_is_told_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as other, server(tmp_path / "data", **NO_RAY) as running:
        other.bind(("127.0.0.1", running.port))
        other.listen()
        assert running.start().wait(20) == 1
        assert f"PORT: port {running.port} on 127.0.0.1 is not to be had: in use by" in running.output
        assert str(os.getpid()) in running.output
        assert not (running.data_dir / "postgres").exists()


def test_several_gateways_share_the_port_and_each_is_waited_for(tmp_path: Path) -> None:
    with server(tmp_path / "data", WORKERS="3", **NO_RAY) as running:
        running.start().wait_ready()
        wait_until(lambda: "Ctrl-C stops everything" in running.output)
        pids = {each.pid for name in ("gateway-1", "gateway-2", "gateway-3") for each in running.children(name)}
        assert len(pids) == 3
        answering = {gateway_says(running)["pid"] for _ in range(60)}
        assert answering == pids
        assert running.stop() == 0


def test_a_gateway_that_cannot_start_ends_the_first_start_with_its_words(tmp_path: Path) -> None:
    with server(tmp_path / "data", STAND_IN="fails", **NO_RAY) as running:
        assert running.start().wait(40) == 1
        assert "Gateway: exit code 1" in running.output
        assert "the stand-in fails, as it was asked to" in running.output
        assert "Traceback" not in running.output
        assert traces(running) == []


def test_orphans_are_reaped_and_none_is_left_at_the_end(tmp_path: Path) -> None:
    with server(tmp_path / "data", STAND_IN="orphans", **NO_RAY) as running:
        running.start().wait_ready()
        supervisor = psutil.Process(running.pid)
        orphan = wait_until(lambda: next((each for each in supervisor.children() if each.name() == "sleep"), None))
        wait_until(lambda: not [each for each in supervisor.children() if each.status() == psutil.STATUS_ZOMBIE])
        assert running.stop() == 0
        assert not orphan.is_running()
        assert traces(running) == []


def test_ctrl_c_ends_a_server_that_a_parent_started_and_not_the_parent(tmp_path: Path) -> None:
    """Under make, for example, the parent shares the terminal, and must not see the interrupt."""
    port = free_ports(1)[0]
    settings = {**NO_RAY, "DATA_DIR": str(tmp_path / "data"), "PORT": str(port), "HOST": "127.0.0.1"}
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(REPOSITORY)
        interpreter = [sys.executable, "-c", PARENT, *COMMAND]
        os.execve(sys.executable, interpreter, {**dict(os.environ), "PYTHONPATH": str(REPOSITORY), **settings})  # noqa: TID251
    output = bytearray()
    try:
        while b"Ctrl-C stops everything" not in output:
            assert read(terminal, output, 30), output.decode()
        os.write(terminal, b"\x03")
        while read(terminal, output, 30):
            pass
        assert b"the child has ended with 0" in output, output.decode()
        assert os.waitpid(pid, 0)[1] == 0
    finally:
        os.close(terminal)


# Does what make does with SIGINT: it waits for its child, and then dies of it.
PARENT = """
import signal, subprocess, sys
child = subprocess.Popen(sys.argv[1:])
interrupted = []
signal.signal(signal.SIGINT, lambda *_: interrupted.append(1))
print("the child has ended with", child.wait(), flush=True)
sys.exit(130 if interrupted else 0)
"""


def read(terminal: int, output: bytearray, seconds: float) -> bool:
    """Wait for the next output; False at the end."""
    waiting = select.poll()  # not select(), which takes no descriptor past 1023
    waiting.register(terminal, select.POLLIN)
    assert waiting.poll(seconds * 1000), output.decode()
    try:
        data = os.read(terminal, 65536)
    except OSError:  # how Linux says that the other side of a terminal is closed
        return False
    output.extend(data)
    return bool(data)


def kill(running: Server, name: str) -> None:
    """Send SIGKILL to the first process of a child."""
    children = running.children(name)
    parents = {each.pid for each in children}
    next(each for each in children if each.ppid() not in parents).kill()


def start_stray(running: Server) -> int:
    environment = {**running.instance.marks("stray"), "PATH": os.defpath}
    return os.posix_spawn("/bin/sleep", ["sleep", "300"], environment, setsid=True)


def child_name(process: psutil.Process) -> str | None:
    return process.environ().get(CHILD_MARK)


def gateway_says(running: Server) -> dict[str, object]:
    with urlopen(f"{running.url}/ready", timeout=5) as response:
        answer: dict[str, object] = json.load(response)
        return answer


def database_url(running: Server) -> str:
    return f"postgresql://tradestream@/tradestream?host={running.instance.runtime_dir}/postgres"


def execute(running: Server, *statements: str) -> None:
    asyncio.run(_execute(database_url(running), statements))


async def _execute(url: str, statements: tuple[str, ...]) -> None:
    conn = await asyncpg.connect(url)
    try:
        for each in statements:
            await conn.execute(each)
    finally:
        await conn.close()


def notes(running: Server) -> list[str] | None:
    """Return the rows that were written before, or None while the database is unavailable."""

    async def fetch() -> list[str]:
        conn = await asyncpg.connect(database_url(running), timeout=5)
        try:
            return [row["note"] for row in await conn.fetch("SELECT note FROM kept")]
        finally:
            await conn.close()

    try:
        return asyncio.run(fetch())
    except (OSError, asyncpg.PostgresError):
        return None


def traces(running: Server) -> list[object]:
    """Return the processes, sockets, locks, pid files and directories that must not outlive the server."""
    files = [
        path for path in running.data_dir.rglob("*") if path.is_socket() or path.name in {"lock", "postmaster.pid"}
    ]
    runtime = [running.instance.runtime_dir] if running.instance.runtime_dir.exists() else []
    return [*running.children(), *files, *runtime]
