"""THE table: every route of the system with its handler, its access policy and its limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from config.settings import ConfigurationError, Settings
from handlers import assets, docs, health, lens, lens_stream, signals
from handlers._access import INTERNAL, OPTIONAL, PUBLIC
from handlers._limits import EXEMPT, Rule
from handlers._routes import Route

SUBMISSIONS = Rule(120, sliding=True, announce_from=60)
STREAMS = Rule(10)
STREAMING = OPTIONAL.with_query_token

# fmt: off
ROUTES = (
    # Health and documentation
    Route("GET",  "/health",                          health.Healthy,         PUBLIC,    EXEMPT),
    Route("GET",  "/ready",                           health.Ready,           PUBLIC,    EXEMPT),
    Route("GET",  "/metrics",                         health.Metrics,         INTERNAL,  EXEMPT),
    Route("GET",  "/api/openapi.json",                docs.OpenApi,           PUBLIC),
    Route("GET",  "/api/docs",                        docs.Docs,              PUBLIC),
    Route("GET",  "/api/docs/{name}",                 docs.DocsFile,          PUBLIC),

    # Assets
    Route("GET",  "/api/assets",                      assets.AllAssets,       PUBLIC),

    # Signals: the public feed
    Route("GET",  "/api/signals/stream",              signals.SignalStream,   STREAMING, STREAMS),
    Route("GET",  "/api/signals/ws",                  signals.SignalSocket,   STREAMING, STREAMS),

    # Lens: the internal API
    Route("GET",  "/api/v1/health",                   health.Healthy,         PUBLIC,    EXEMPT),
    Route("GET",  "/api/v1/ready",                    health.Ready,           PUBLIC,    EXEMPT),
    Route("GET",  "/api/v1/metrics",                  health.Metrics,         INTERNAL,  EXEMPT),
    Route("POST", "/api/v1/signals",                  lens.Signals,           INTERNAL,  SUBMISSIONS),
    Route("GET",  "/api/v1/events",                   lens.Events,            INTERNAL),
    Route("GET",  "/api/v1/events/{event_id}",        lens.OneEvent,          INTERNAL),
    Route("GET",  "/api/v1/events/{event_id}/status", lens.StatusOfEvent,     INTERNAL),
    Route("GET",  "/api/v1/ws/stream",                lens_stream.LensSocket, INTERNAL),
)
# fmt: on


def effective_limits(routes: Sequence[Route], settings: Settings) -> Mapping[str, Rule]:
    """The rule of each route by its name, with the numbers that RATE_LIMITS sets instead of the table's.

    Raises ConfigurationError for a route that is not in the table.
    """
    rules = {route.name: route.limit for route in routes}
    unknown = [name for name, _ in settings.rate_limits if name not in rules]
    if unknown:
        raise ConfigurationError(f"RATE_LIMITS: there is no route {name!r}" for name in unknown)
    return rules | {name: rules[name].of(limit) for name, limit in settings.rate_limits}
