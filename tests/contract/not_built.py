"""The documented routes that do not exist yet. This list only gets shorter: a route that is built must leave it."""

NOT_BUILT = {
    "GET /api/leaderboards/{}",
    "GET /api/providers",
    "POST /api/providers/become",
    "GET /api/providers/{}",
    "GET /api/providers/{}/signals",
    "GET /api/signals",
    "GET /api/signals/{}",
    "GET /api/social/feed",
    "DELETE /api/social/follow/{}",
    "POST /api/social/follow/{}",
    "GET /api/social/following",
    "GET /api/social/signals/{}/comments",
    "POST /api/social/signals/{}/comments",
    "POST /api/social/signals/{}/react",
    "DELETE /api/social/signals/{}/react/{}",
}
