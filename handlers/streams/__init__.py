"""The live feed: from Redis and Postgres into one order, from there to every stream of this process."""

from handlers.streams.feed import Feed

__all__ = ["Feed"]
