"""Access Redis (or Valkey): a client with short time-outs and a bounded pool."""

from __future__ import annotations

import redis.asyncio
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import EqualJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

# What a caller catches when Redis is unavailable: refused, lost, timed out, out of connections, or an error reply.
REDIS_ERRORS = (RedisError, OSError)

CONNECT_SECONDS = 0.5
ANSWER_SECONDS = 1.0
MAX_CONNECTIONS = 32  # past it a command waits up to ANSWER_SECONDS for a connection, then fails
HEALTH_CHECK_SECONDS = 30  # an idle connection is tried before it is used again


def create_redis(url: str) -> Redis:
    """Create a client for `redis://`, `rediss://` or `unix://`; it connects when first used, answers are bytes.

    A lost connection is retried once, at once (a restarted server closes idle ones); a time-out is not, since the
    command may have run. Subscriptions wait without a time-out. Close it with `await client.aclose()`.
    """
    pool = redis.asyncio.BlockingConnectionPool.from_url(
        url,
        max_connections=MAX_CONNECTIONS,
        timeout=ANSWER_SECONDS,
        socket_connect_timeout=CONNECT_SECONDS,
        socket_timeout=ANSWER_SECONDS,
        health_check_interval=HEALTH_CHECK_SECONDS,
        retry=Retry(EqualJitterBackoff(cap=0.1, base=0.02), 1, supported_errors=(RedisConnectionError,)),
    )
    return Redis.from_pool(pool)
