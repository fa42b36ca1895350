"""HTTP/1.1 under Tornado's application: llhttp parses, the event loop's transports read and write.

Tornado's own server makes a dozen futures, four system calls for options and a time-out for each request, which is more
than the work of a small answer (docs/adr/0011). What it gives to the application stays as it is: an object with the
interface of `tornado.httputil.HTTPConnection` for each request, and an `IOStream` for who detaches a connection.
"""

from server._http1.limits import ConnectionLimits
from server._http1.server import HttpServer

__all__ = ["ConnectionLimits", "HttpServer"]
