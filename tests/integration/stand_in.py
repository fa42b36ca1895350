"""A whole server whose gateway is a stand-in, so that the supervisor can be tested without waiting for the real one.

`python -m tests.integration.stand_in` serves like `run.py serve`; with `gateway`, it is the gateway.
Failures are asked for by environment: `STAND_IN=fails` ends at once, `STAND_IN=orphans` leaves a grandchild behind.
"""

from __future__ import annotations

import asyncio
import os
import sys

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from config.settings import Settings
from server.supervisor.instance import AlreadyRunning
from server.supervisor.service import ServiceError
from server.supervisor.supervisor import serve
from server.supervisor.unit import StartFailed

COMMAND = (sys.executable, "-m", "tests.integration.stand_in", "gateway")


class Ready(RequestHandler):
    """A handler that is always ready; it answers with the address of its Ray."""

    def get(self) -> None:
        self.write({"pid": os.getpid(), "ray": Settings.load(env_file=None).ray_address})


async def gateway() -> None:
    """Serve `/ready` until SIGTERM, then end with 0."""
    behaviour = os.environ.get("STAND_IN")  # noqa: TID251 - of this test alone
    if behaviour == "fails":
        sys.exit("the stand-in fails, as it was asked to")
    if behaviour == "orphans":  # a grandchild whose parent ends: it becomes the supervisor's
        await (await asyncio.create_subprocess_shell("sleep 0.2 & sleep 300 &")).wait()
    settings = Settings.load(env_file=None)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(15, stopping.set)
    server = HTTPServer(Application([("/ready", Ready)]))
    server.add_sockets(bind_sockets(settings.port, settings.host, reuse_port=True))
    sys.stdout.write("the stand-in serves\n")
    sys.stdout.flush()
    await stopping.wait()


def main() -> int:
    """Serve as asked; return the exit status."""
    if sys.argv[1:] == ["gateway"]:
        asyncio.run(gateway())
        return 0
    try:
        asyncio.run(serve(Settings.load(env_file=None), gateway_command=COMMAND))
    except (AlreadyRunning, ServiceError, StartFailed) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
