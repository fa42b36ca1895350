"""The tests. Ray reads these variables once, when it is imported, which is before any fixture could set them."""

import os

os.environ.update(  # noqa: TID251 - Ray's own settings, not ours
    RAY_AUTH_MODE="token",
    RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0",  # Ray's name for: the loopback interface only
    RAY_USAGE_STATS_ENABLED="0",
)
