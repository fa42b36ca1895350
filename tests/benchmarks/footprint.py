"""The resources that a running server uses: CPU and memory by kind of process, Postgres, Valkey, log files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import psutil

from db._redis import create_redis
from server.supervisor.embedded_postgres import EmbeddedPostgres
from server.supervisor.embedded_valkey import EmbeddedValkey
from tests.support.services import Server

TABLES = """
SELECT relname, pg_relation_size(oid) + coalesce(pg_total_relation_size(nullif(reltoastrelid, 0)), 0),
       pg_indexes_size(oid)
FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
"""
WRITTEN = "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"


@dataclass
class Footprint:
    """One measurement. CPU is seconds since each process began; all sizes are bytes."""

    cpu: Counter[str] = field(default_factory=Counter)
    memory: Counter[str] = field(default_factory=Counter)
    tables: dict[str, tuple[int, int]] = field(default_factory=dict)  # rows with TOAST, indexes
    wal: int = 0
    valkey_memory: int = 0
    valkey_keys: int = 0
    valkey_file: int = 0
    logs: int = 0


def postgres_url(server: Server) -> str:
    """Return the URL of the server's embedded PostgreSQL."""
    return EmbeddedPostgres(server.instance).url


def valkey_url(server: Server) -> str:
    """Return the URL of the server's embedded Valkey."""
    return EmbeddedValkey(server.instance).url


async def look(server: Server) -> Footprint:
    """Measure everything at this moment."""
    found = Footprint()
    found.cpu, found.memory = processes(server)
    conn = await asyncpg.connect(postgres_url(server))
    try:
        found.tables = {row[0]: (row[1], row[2]) for row in await conn.fetch(TABLES)}
        found.wal = int(await conn.fetchval(WRITTEN))
    finally:
        await conn.close()
    redis = create_redis(valkey_url(server))
    try:
        memory, persistence = await redis.info("memory"), await redis.info("persistence")
        found.valkey_memory = memory["used_memory"]
        found.valkey_file = persistence.get("aof_current_size", 0)
        found.valkey_keys = await redis.dbsize()
    finally:
        await redis.aclose()
    found.logs = sum(each.stat().st_size for each in server.instance.log_dir.rglob("*") if each.is_file())
    return found


def processes(server: Server) -> tuple[Counter[str], Counter[str]]:
    """Return CPU seconds and resident bytes (shared pages counted once, where the system tells) by kind of process."""
    cpu: Counter[str] = Counter()
    memory: Counter[str] = Counter()
    for kind, process in _by_kind(server):
        try:
            times = process.cpu_times()
            cpu[kind] += times.user + times.system
            if kind == "postgres":  # its processes come and go; the postmaster has waited for them
                cpu[kind] += times.children_user + times.children_system
            memory[kind] += process.memory_full_info().pss
        except psutil.Error:
            continue
    return cpu, memory


def _by_kind(server: Server) -> Iterator[tuple[str, psutil.Process]]:
    yield "supervisor", psutil.Process(server.pid)
    for process in server.children():
        try:
            yield _kind(process.name(), " ".join(process.cmdline())), process
        except psutil.Error:
            continue


def _kind(name: str, command: str) -> str:
    if actor := re.match(r"ray::([A-Z]\w+)", command):
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "/", actor[1]).lower()
    for word, kind in (
        ("server.main", "gateway"),
        ("valkey-server", "valkey"),
        ("raylet/raylet", "raylet"),
        ("gcs_server", "gcs"),
    ):
        if word in command:
            return kind
    return "postgres" if name == "postgres" else "ray (rest)"


def difference(after: Any, before: Any) -> dict[str, float]:
    """Return what was added by kind, the largest first."""
    added = {kind: after[kind] - before.get(kind, 0) for kind in after}
    return dict(sorted(added.items(), key=lambda each: -each[1]))
