"""Read scored signals of other systems from Redis, and from Kafka where one is configured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from actors._runtime.context import ActorContext, Behaviour
from actors._runtime.messages import Envelope
from actors.ingest.acceptance import Acceptance
from actors.ingest.kafka_topic import KafkaTopic
from actors.ingest.redis_channel import RedisChannel
from actors.lens.market.source import open_prices
from schemas.errors import Internal

RESEND_SECONDS = 0.5


class Ingest(Behaviour):
    """Owns the reading of the channel and the topic, and those of their messages that are dead letters.

    Success: the message is a published signal, or a dead letter. A crash loses what Redis has delivered and is not yet
    durable; Kafka's messages are read again from the last committed offset. Repeating is harmless: a signal is stored
    once by its id, a dead letter once by its message's partition and offset.
    """

    async def start(self, context: ActorContext) -> None:
        """Begin to read; unavailable brokers are waited for in the background."""
        await super().start(context)
        self._prices = open_prices(context.settings, context.pool)
        acceptance = Acceptance(context, self._prices)
        self._redis = RedisChannel(context, acceptance)
        self._kafka = KafkaTopic(context.settings, acceptance) if context.settings.kafka_bootstrap_servers else None
        self._redis.start()
        if self._kafka is not None:
            self._kafka.start()
        context.every(RESEND_SECONDS, acceptance.resend, name="publish retried dead letters")

    async def stop(self) -> None:
        """See Behaviour."""
        if self._kafka is not None:
            await self._kafka.stop()
        await self._redis.stop()
        await self._prices.close()

    async def process(self, batch: Sequence[Envelope]) -> Sequence[object]:
        """Accept no messages: this actor reads its own sources."""
        return [Internal("ingest takes no messages") for _ in batch]

    def stats(self) -> Mapping[str, float]:
        """See Behaviour."""
        redis: dict[str, float] = {
            "redis_open": self._redis.is_open,
            "redis_buffered": len(self._redis.buffer),
            "redis_dropped": self._redis.buffer.dropped,
        }
        if self._kafka is None:
            return redis
        return {**redis, "kafka_open": self._kafka.is_open, "kafka_lag": self._kafka.lag}
