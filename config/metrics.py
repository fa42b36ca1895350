"""Every metric of the system. Names are `tradestream_*`, units are base units, and no label is unbounded.

Gateways and actor processes write to files that they share (`PROMETHEUS_MULTIPROC_DIR`); `/metrics` adds them up.
"""

from __future__ import annotations

from prometheus_client import Counter, Histogram

# HTTP, by gateway. `route` is the pattern of the route table, never the path that was asked for.
HTTP_REQUESTS = Counter("tradestream_http_requests_total", "Requests answered.", ("method", "route", "status"))
HTTP_REQUEST_SECONDS = Histogram(
    "tradestream_http_request_seconds",
    "Time from a request's headers to the end of its response; a stream's ends when it is open.",
    ("method", "route", "status"),
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
)
