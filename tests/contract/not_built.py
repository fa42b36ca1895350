"""The documented routes that do not exist yet. This list only gets shorter: a route that is built must leave it."""

NOT_BUILT = {
    "GET /api/leaderboards/{}",
    "GET /api/providers/{}/signals",
    "GET /api/signals",
    "GET /api/signals/{}",
    "GET /api/social/feed",
    "GET /api/social/signals/{}/comments",
    "POST /api/social/signals/{}/comments",
    "POST /api/social/signals/{}/react",
    "DELETE /api/social/signals/{}/react/{}",
}
