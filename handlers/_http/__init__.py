"""The plumbing of every request: routes, access, limits, bodies, answers."""
