"""A real nginx with the configuration that is shipped, in a folder of its own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from server.supervisor.ports import free_ports
from tests.support.streams import until

SHIPPED = Path(__file__).resolve().parents[2] / "deploy" / "nginx.conf"
CHANGES = (("server 127.0.0.1:8000 ", "server 127.0.0.1:{upstream} "), ("listen 80 ", "listen 127.0.0.1:{port} "))
LOG = "access_log /var/log/nginx/tradestream.log "
LATEST = (("worker_processes auto;", "worker_processes 1;"), ("worker_rlimit_nofile 65536;", ""))


@asynccontextmanager
async def behind_nginx(program: str, folder: Path, upstream: int) -> AsyncIterator[int]:
    """Run an nginx in front of the gateways on `upstream`; yield its port."""
    [port] = free_ports(1)
    text = await asyncio.to_thread(SHIPPED.read_text)
    for old, new in (*CHANGES, *LATEST, (LOG, f"access_log {folder}/failures.log ")):
        assert text.count(old) == 1, old
        text = text.replace(old, new.replace("{upstream}", str(upstream)).replace("{port}", str(port)))
    await asyncio.to_thread(folder.mkdir)
    await asyncio.to_thread((folder / "nginx.conf").write_text, text)
    orders = f"daemon off; pid {folder}/nginx.pid;" + (" user root root;" if os.geteuid() == 0 else "")
    process = await asyncio.create_subprocess_exec(
        program, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "nginx.log"), "-g", orders
    )
    try:
        await until(lambda: _listens(port), what="for nginx")
        yield port
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), 10)


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True
