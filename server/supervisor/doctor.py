"""`run.py doctor`: report everything that keeps a server from starting, without starting it, a line for each."""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import asyncpg

from config.masking import redact
from config.settings import ConfigurationError, Settings
from config.texts import escape_unstorable
from db._migrate import MigrationError, dbmate_binary
from db._pooling import Pooled, refuse_pooling
from server.supervisor.embedded_postgres import postgres_binary
from server.supervisor.embedded_valkey import valkey_binary
from server.supervisor.instance import Instance
from server.supervisor.ports import in_use, wanted_ports
from server.supervisor.preflight import data_directory, names
from server.supervisor.ray_head import ray_binary
from server.supervisor.service import ServiceError

FREE_BYTES = 2 << 30  # a cluster with its write-ahead log, logs, and what Ray spills
MODULES = (
    *("aiohttp", "apispec", "asyncpg", "bcrypt", "environs", "hiredis", "jwt", "marshmallow", "motor", "numpy"),
    *("orjson", "prometheus_client", "psutil", "redis", "sortedcontainers", "swagger_ui", "talib", "tornado"),
    *("uuid_utils", "uvloop"),
)


class NotFit(Exception):
    """A fault, and what to do about it."""


def examine(say: Callable[[str], object]) -> int:
    """Check everything, print a line for each; returns the exit status: 1 when something is wrong."""
    failed = 0
    settings: Settings | None = None
    try:
        settings = Settings.load(checks=[names])
    except ConfigurationError as error:
        failed += 1
        for problem in error.problems:
            say(f"✗ settings      {problem}")
    else:
        say(f"✓ settings      valid, for {settings.environment}")
    for label, check in _checks(settings):
        try:
            say(f"✓ {label:<13} {check()}")
        except (NotFit, ServiceError, MigrationError, OSError) as error:
            failed += 1
            lines = str(error).splitlines()
            say("\n".join([f"✗ {label:<13} {lines[0]}", *(f"  {'':<13} {line}" for line in lines[1:])]))
    return 1 if failed else 0


def _checks(settings: Settings | None) -> Iterator[tuple[str, Callable[[], str]]]:
    yield "Python", _python
    yield "dependencies", _dependencies
    yield "Ray", _ray
    yield "dbmate", lambda: _runs(dbmate_binary())
    if settings is None:
        return
    if settings.redis_url is None:
        yield "Valkey", lambda: _runs(str(valkey_binary()))
    if settings.database_url is None:
        yield "PostgreSQL", lambda: _runs(str(postgres_binary()))
    else:
        yield "database", partial(_database, settings.database_url)
    try:
        instance = Instance(settings.data_dir)
    except (OSError, RuntimeError) as error:
        reason = str(error)
        yield "data directory", lambda: _fails(reason)
        return
    yield "data directory", lambda: _writable(settings, instance)
    yield "disk", lambda: _disk(instance.data_dir)
    owner = instance.owner_pid
    for name, host, port in wanted_ports(settings):
        yield f"port {port}", partial(_port, name, host, port, owner)


def _python() -> str:
    if sys.version_info < (3, 11):  # noqa: UP036
        raise NotFit(f"{sys.version.split()[0]} is too old: 3.11 or newer is needed")
    return f"{sys.version.split()[0]} at {sys.executable}"


def _dependencies() -> str:
    problems = []
    for name in MODULES:
        try:
            importlib.import_module(name)
        except ImportError as error:
            problems.append(f"{name}: {error}")
    if problems:
        raise NotFit("\n".join(problems))
    return f"{len(MODULES)} packages can be imported"


def _ray() -> str:
    spec = importlib.util.find_spec("ray")  # found, not imported: an import takes a second and starts threads
    if spec is None or spec.origin is None:
        raise NotFit("the package ray[default] is not installed")
    core = Path(spec.origin).parent / "core" / "src" / "ray"
    for program in (core / "gcs" / "gcs_server", core / "raylet" / "raylet", ray_binary()):
        if not os.access(program, os.X_OK):
            raise NotFit(f"{program} cannot be executed")
    if not (core.parents[2] / "dashboard" / "client" / "build" / "index.html").exists():
        raise NotFit("Ray is installed without its dashboard: ray[default] is needed")
    return f"{importlib.metadata.version('ray')} with its programs"


def _runs(program: str) -> str:
    done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20, check=False)
    if done.returncode != 0:
        raise NotFit(f"{program} does not run here: {done.stderr.strip() or done.returncode}")
    return done.stdout.strip()


def _writable(settings: Settings, instance: Instance) -> str:
    folder = instance.data_dir
    if problems := data_directory(settings):
        raise NotFit("\n".join(problems))
    owner = instance.owner_pid
    return f"{folder}, in use by the running instance (pid {owner})" if owner else f"{folder} can be written"


def _fails(reason: str) -> str:
    raise NotFit(reason)


def _database(url: str) -> str:
    return asyncio.run(_look_at_database(url))


async def _look_at_database(url: str) -> str:
    try:
        await refuse_pooling(url)
        conn = await asyncpg.connect(url, timeout=5)
        try:
            version: str = await conn.fetchval("SHOW server_version")
        finally:
            conn.terminate()
    except (Pooled, OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise NotFit(escape_unstorable(redact(str(error))) or "no answer in time") from None
    return f"PostgreSQL {version} answers"


def _disk(folder: Path) -> str:
    existing = next(each for each in (folder, *folder.parents) if each.exists())
    free = shutil.disk_usage(existing).free
    if free < FREE_BYTES:
        raise NotFit(f"{free >> 20} MiB free at {existing}, and {FREE_BYTES >> 20} are wanted")
    return f"{free >> 30} GiB free"


def _port(name: str, host: str, port: int, owner: int | None) -> str:
    problem = in_use(name, host, port)
    if problem is None:
        return f"free on {host}"
    if owner is None:
        raise NotFit(problem)
    return f"in use on {host}, by the running instance (pid {owner}) as it seems"
