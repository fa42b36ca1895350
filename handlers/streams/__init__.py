"""Deliver the live feed: merged from Redis and Postgres into one order, then sent to every stream of this process."""

from handlers.streams.feed import LiveFeed

__all__ = ["LiveFeed"]
