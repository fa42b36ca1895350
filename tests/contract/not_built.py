"""The documented routes that do not exist yet. This list only gets shorter: a route that is built must leave it."""

NOT_BUILT: set[str] = set()
