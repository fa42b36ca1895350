"""The route table: every route of the system with its handler, its access policy and its limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from config._env_file import closest
from config.settings import ConfigurationError, Settings
from handlers import (
    achievements,
    assets,
    decisions,
    demo,
    dlq,
    docs,
    follows,
    health,
    leaderboards,
    lens,
    lens_stream,
    log,
    providers,
    referrals,
    signals,
    social,
    users,
)
from handlers._http.access import AUTHENTICATED, COOKIE_HOLDER, INTERNAL, OPTIONAL, PUBLIC, permission
from handlers._http.limits import EXEMPT, Rule
from handlers._http.routes import Route
from handlers.auth import login, oauth, passwords, profile, registration
from handlers.auth._attempts import FAILURES, WRONG_PASSWORDS

SUBMISSIONS = Rule(120, sliding=True, announce_from=60)
STREAMS = Rule(10)
RESUMES = Rule(120)  # 20 open streams of an address may each resume six times
REGISTRATION = Rule(5)
LOGINS = Rule(10)
EMAILS = Rule(3)
OAUTH = Rule(10)
REACTIONS = Rule(100, window_seconds=3600)
COMMENTS = Rule(20, window_seconds=3600)
STREAMING = OPTIONAL.with_query_token
SETTINGS = permission("write:settings")
WATCHLIST = permission("write:watchlist")
FOLLOWS = permission("write:follows")
TALKING = permission("write:reactions")
PUBLISHING = permission("write:provider")
ACHIEVEMENTS = permission("read:achievements")

# fmt: off
ROUTES = (
    # Health and documentation
    Route("GET",  "/",                                docs.Root,              PUBLIC),
    Route("GET",  "/health",                          health.Healthy,         PUBLIC,    EXEMPT),
    Route("GET",  "/ready",                           health.Ready,           PUBLIC,    EXEMPT),
    Route("GET",  "/metrics",                         health.Metrics,         INTERNAL,  EXEMPT),
    Route("GET",  "/api/openapi.json",                docs.OpenApi,           PUBLIC),
    Route("GET",  "/api/docs",                        docs.Docs,              PUBLIC),
    Route("GET",  "/api/docs/{name}",                 docs.DocsFile,          PUBLIC),

    # Accounts
    Route("POST",   "/auth/register",                    registration.Registrations,       PUBLIC,        REGISTRATION),
    Route("POST",   "/auth/login",                       login.Logins,                     PUBLIC,        LOGINS),
    Route("POST",   "/auth/refresh",                     login.Refreshes,                  COOKIE_HOLDER),
    Route("POST",   "/auth/logout",                      login.Logouts,                    AUTHENTICATED),
    Route("POST",   "/auth/demo",                        login.Demos,                      PUBLIC),
    Route("GET",    "/auth/verify-email",                registration.EmailVerification,   PUBLIC),
    Route("POST",   "/auth/verify-email",                registration.EmailVerification,   PUBLIC),
    Route("POST",   "/auth/resend-verification",         registration.VerificationEmails, PUBLIC,        EMAILS),
    Route("POST",   "/auth/forgot-password",             passwords.ForgottenPasswords,     PUBLIC,        EMAILS),
    Route("POST",   "/auth/reset-password",              passwords.PasswordResets,         PUBLIC),
    Route("POST",   "/auth/change-password",             passwords.PasswordChanges,        AUTHENTICATED),
    Route("GET",    "/auth/oauth/{provider}",            oauth.OAuthStart,                 PUBLIC,        OAUTH),
    Route("GET",    "/auth/oauth/{provider}/callback",   oauth.OAuthCallback,              PUBLIC,        OAUTH),
    Route("GET",    "/auth/me",                          profile.MyAccount,                AUTHENTICATED),
    Route("PATCH",  "/auth/me",                          profile.MyAccount,                AUTHENTICATED),
    Route("GET",    "/auth/sessions",                    profile.MySessions,               AUTHENTICATED),
    Route("DELETE", "/auth/sessions/{session_id}",       profile.OneSession,               AUTHENTICATED),

    # A user's preferences
    Route("GET",    "/api/user/settings",                users.MySettings,                 AUTHENTICATED),
    Route("PUT",    "/api/user/settings",                users.MySettings,                 SETTINGS),
    Route("GET",    "/api/user/watchlist",               users.MyWatchlist,                AUTHENTICATED),
    Route("POST",   "/api/user/watchlist",               users.MyWatchlist,                WATCHLIST),
    Route("DELETE", "/api/user/watchlist/{symbol:path}",  users.OneSymbol,                  WATCHLIST),
    Route("GET",    "/api/user/saved-views",             users.MyViews,                    AUTHENTICATED),
    Route("POST",   "/api/user/saved-views",             users.MyViews,                    SETTINGS),
    Route("PUT",    "/api/user/saved-views/{view_id}",   users.OneView,                    SETTINGS),
    Route("DELETE", "/api/user/saved-views/{view_id}",   users.OneView,                    SETTINGS),

    # Assets
    Route("GET",  "/api/assets",                      assets.AllAssets,       PUBLIC),

    # Signals: the public feed
    Route("GET",  "/api/signals/stream",              signals.SignalStream,   STREAMING, STREAMS, resume_limit=RESUMES),
    Route("GET",  "/api/signals/ws",                  signals.SignalSocket,   STREAMING, STREAMS, resume_limit=RESUMES),

    # Stored signals, reactions and comments
    Route("GET",    "/api/signals",                       signals.AllSignals, OPTIONAL),
    Route("POST",   "/api/signals",                       signals.AllSignals, PUBLISHING),
    Route("GET",    "/api/signals/{signal_id}",           signals.OneSignal,  OPTIONAL),
    Route("GET",    "/api/signals/{signal_id}/proof",     log.SignalProof,    PUBLIC),
    Route("POST",   "/api/signals/{signal_id}/retract",   signals.Retraction, PUBLISHING),
    Route("GET",    "/api/social/feed",                   social.SocialFeed,  AUTHENTICATED),
    Route("POST",   "/api/social/signals/{signal_id}/react",
          social.Reactions,   TALKING,       EXEMPT, REACTIONS),
    Route("DELETE", "/api/social/signals/{signal_id}/react/{reaction_type}",
          social.OneReaction, TALKING),
    Route("GET",    "/api/social/signals/{signal_id}/comments",
          social.Comments,    AUTHENTICATED),
    Route("POST",   "/api/social/signals/{signal_id}/comments",
          social.Comments,    TALKING,       EXEMPT, COMMENTS),
    Route("PATCH",  "/api/social/signals/{signal_id}/comments/{comment_id}",
          social.OneComment,  TALKING),
    Route("DELETE", "/api/social/signals/{signal_id}/comments/{comment_id}",
          social.OneComment,  TALKING),

    # Leaderboards
    Route("GET",  "/api/leaderboards/{type}",         leaderboards.OneLeaderboard, OPTIONAL),

    # Achievements and referrals
    Route("GET",  "/api/achievements",                achievements.Definitions,  ACHIEVEMENTS),
    Route("GET",  "/api/achievements/me",             achievements.MineUnlocked, ACHIEVEMENTS),
    Route("GET",  "/api/achievements/streaks",        achievements.MineInRow,    ACHIEVEMENTS),
    Route("GET",  "/api/referrals",                   referrals.MyReferrals,     AUTHENTICATED),
    Route("POST", "/api/referrals/custom-code",       referrals.MyCode,          SETTINGS),
    Route("GET",  "/join/{code}",                     referrals.Join,            PUBLIC),

    # Providers and who follows them
    Route("GET",    "/api/providers",                     providers.AllProviders,  OPTIONAL),
    Route("POST",   "/api/providers/become",              providers.Providerships, AUTHENTICATED),
    Route("PATCH",  "/api/providers/me",                  providers.MyProvider,    AUTHENTICATED),
    Route("GET",    "/api/providers/{provider_id}",       providers.OneProvider,   OPTIONAL),
    Route("GET",    "/api/providers/{provider_id}/equity", providers.EquityOfProvider, OPTIONAL),
    Route("GET",    "/api/providers/{provider_id}/signals", providers.SignalsOfProvider, OPTIONAL),
    Route("POST",   "/api/social/follow/{provider_id}",   follows.OneFollow,       FOLLOWS),
    Route("DELETE", "/api/social/follow/{provider_id}",   follows.OneFollow,       FOLLOWS),
    Route("PATCH",  "/api/social/follow/{provider_id}",   follows.OneFollow,       FOLLOWS),
    Route("GET",    "/api/social/following",              follows.MyFollowing,     AUTHENTICATED),

    # The public log
    Route("GET",  "/log/checkpoint",                  log.LogCheckpoint,      PUBLIC,    EXEMPT),
    Route("GET",  "/log/key",                         log.LogKey,             PUBLIC,    EXEMPT),
    Route("GET",  "/log/tile/{tile:path}",            log.LogTile,            PUBLIC,    EXEMPT),
    Route("GET",  "/api/log/consistency",             log.LogConsistency,     PUBLIC),

    # Lens: the internal API
    Route("GET",  "/api/v1/health",                   health.Healthy,         PUBLIC,    EXEMPT),
    Route("GET",  "/api/v1/ready",                    health.Ready,           PUBLIC,    EXEMPT),
    Route("GET",  "/api/v1/metrics",                  health.Metrics,         INTERNAL,  EXEMPT),
    Route("POST", "/api/v1/signals",                  lens.Signals,           INTERNAL,  SUBMISSIONS),
    Route("GET",  "/api/v1/events",                   lens.Events,            INTERNAL),
    Route("GET",  "/api/v1/events/{event_id}",        lens.OneEvent,          INTERNAL),
    Route("GET",  "/api/v1/events/{event_id}/status", lens.StatusOfEvent,     INTERNAL),
    Route("GET",  "/api/v1/decisions",                decisions.Decisions,    INTERNAL),
    Route("GET",  "/api/v1/decisions/{decision_id}",  decisions.OneDecision,  INTERNAL),
    Route("GET",  "/api/v1/dlq",                      dlq.DeadLetters,        INTERNAL),
    Route("POST", "/api/v1/dlq/retry",                dlq.RetryAll,           INTERNAL),
    Route("POST", "/api/v1/dlq/resolve",              dlq.ResolveAll,         INTERNAL),
    Route("GET",  "/api/v1/dlq/{dlq_id}",             dlq.OneDeadLetter,      INTERNAL),
    Route("POST", "/api/v1/dlq/{dlq_id}/retry",       dlq.RetryOne,           INTERNAL),
    Route("POST", "/api/v1/dlq/{dlq_id}/resolve",     dlq.ResolveOne,         INTERNAL),
    Route("GET",  "/api/v1/ws/stream",                lens_stream.LensSocket, INTERNAL),

    # For operators
    Route("GET",  "/api/v1/referrals/clusters",       referrals.Clusters,     INTERNAL),
)

# Routes of `run.py demo`, absent in production. The import has one client, which sends thousands at a time.
DEVELOPMENT_ROUTES = (
    Route("GET",  "/api/v1/demo",                     demo.Demo,              INTERNAL),
    Route("POST", "/api/v1/demo/signals",             demo.DemoSignals,       INTERNAL,  EXEMPT),
)
# fmt: on


def routes_for(settings: Settings) -> Sequence[Route]:
    """Return the routes of a server with these settings."""
    return ROUTES if settings.is_production else (*ROUTES, *DEVELOPMENT_ROUTES)


def effective_limits(routes: Sequence[Route], settings: Settings) -> Mapping[str, Rule]:
    """Return the limits by route (`GET /x`, `GET /x per user`, `GET /x resumed`), with RATE_LIMITS' numbers.

    RATE_LIMITS' numbers replace the table's. The rule of WRONG_PASSWORDS is included. Where RATE_LIMITS allows more new
    streams than resumed ones and does not name those, they are as many. Raises ConfigurationError for a route that is
    not in the table.
    """
    rules = {route.name: route.limit for route in routes}
    rules |= {route.user_limit_name: route.user_limit for route in routes if route.user_limit is not None}
    rules |= {route.resume_limit_name: route.resume_limit for route in routes if route.resume_limit is not None}
    rules[WRONG_PASSWORDS] = FAILURES
    unknown = [name for name, _ in settings.rate_limits if name not in rules]
    if unknown:
        raise ConfigurationError(f"RATE_LIMITS: there is no route {name!r}{_meant(name, rules)}" for name in unknown)
    given = {f"{name} resumed": limit for name, limit in settings.rate_limits if _lets_in_more(limit, rules, name)}
    given |= dict(settings.rate_limits)
    return rules | {name: rules[name].of(limit) for name, limit in given.items()}


def _meant(name: str, rules: Mapping[str, Rule]) -> str:
    found = closest(name, rules)
    return "" if found is None else f"; did you mean {found!r}?"


def _lets_in_more(limit: int, rules: Mapping[str, Rule], name: str) -> bool:
    resumes = rules.get(f"{name} resumed")
    return resumes is not None and (limit == 0 or limit > (resumes.limit or 0))
