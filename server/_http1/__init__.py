"""HTTP/1.1 under Tornado's application: llhttp parses, the event loop's transports read and write; or Tornado's server.

Tornado's own server makes a dozen futures, four system calls for options and a time-out for each request, which is more
than the work of a small answer. `interface.py` is the fence: handlers see nothing of either server
(docs/adr/0011-http.md).
"""

from server._http1.interface import HttpServer
from server._http1.limits import ConnectionLimits
from server._http1.server import LlhttpServer
from server._http1.tornado_server import TornadoServer

__all__ = ["ConnectionLimits", "HttpServer", "LlhttpServer", "TornadoServer"]
