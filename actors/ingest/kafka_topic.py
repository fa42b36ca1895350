"""Read scored signals from a Kafka topic: at least once, an offset committed when everything before it is durable.

This one process reads all partitions, so no consumer group has to rebalance: after a crash the successor resumes at the
committed offsets at once, where a group would first wait for the dead member's session to end.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from actors.ingest.acceptance import MOST_MESSAGES, Acceptance
from actors.ingest.received import Received
from config import metrics
from config.backoff import Backoff
from config.settings import Settings
from config.tasks import cancel, spawn
from schemas.ingest import SCORED_SIGNALS

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

log = logging.getLogger(__name__)

RETRY_SECONDS = (0.5, 15.0)
REQUEST_SECONDS = 10.0
COMMIT_SECONDS = 5.0
STOP_SECONDS = 2.0
POLL_SECONDS = 1.0
PROBE_SECONDS = 5.0  # after so long without a message the broker is pinged
METADATA_SECONDS = 10.0  # until a new partition is noticed
FETCH_BYTES = 8 << 20  # in memory at most, for each broker; 1 MiB for each partition
PARTITION_BYTES = 1 << 20


class KafkaTopic:
    """Consume the Kafka topic. `is_open`: the broker answers. `lag`: messages that are not durable here yet.

    While a batch waits (Postgres is unavailable), nothing more is read: the broker keeps it.
    """

    def __init__(self, settings: Settings, acceptance: Acceptance) -> None:
        self.is_open = False
        self.lag = 0
        self._servers = settings.kafka_bootstrap_servers or ""
        self._group = settings.kafka_group
        self._acceptance = acceptance
        self._partitions = {0}  # every topic has it; the others are known once the broker has answered
        self._done: dict[TopicPartition, int] = {}  # durable up to here, and not committed yet
        self._heard_at = 0.0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to read."""
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # an error each 100 ms while the broker is unavailable
        self._task = spawn(self._run(), name="ingest: read Kafka")

    async def stop(self) -> None:
        """Stop reading. Messages in progress are read again at the next start."""
        await cancel(self._task)
        self._show(is_open=False)

    async def _run(self) -> None:
        backoff = Backoff(*RETRY_SECONDS)
        while True:
            consumer = self._consumer()
            try:
                async with asyncio.timeout(REQUEST_SECONDS):
                    await consumer.start()
                await self._read(consumer, backoff)
                continue  # with other partitions
            except Exception as error:  # noqa: BLE001 - of the driver or the broker: the consumer is opened anew
                log.warning("Kafka at %s cannot be read: %s: %s", self._servers, type(error).__name__, error)
                self._show(is_open=False)
            finally:
                await _close(consumer)
            await asyncio.sleep(backoff.next())

    def _consumer(self) -> AIOKafkaConsumer:
        from aiokafka import AIOKafkaConsumer, TopicPartition  # an optional extra

        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._servers,
            client_id="tradestream",
            group_id=self._group,  # only names the committed offsets
            enable_auto_commit=False,
            auto_offset_reset="earliest",  # the first time: all that the topic holds
            request_timeout_ms=int(REQUEST_SECONDS * 1000),
            retry_backoff_ms=500,
            metadata_max_age_ms=int(METADATA_SECONDS * 1000),
            fetch_max_bytes=FETCH_BYTES,
            max_partition_fetch_bytes=PARTITION_BYTES,
        )
        # Before it starts: an assignment that changes later breaks the driver's coordination.
        consumer.assign([TopicPartition(SCORED_SIGNALS, each) for each in sorted(self._partitions)])
        self._done.clear()
        return consumer

    async def _read(self, consumer: AIOKafkaConsumer, backoff: Backoff) -> None:
        """Read until the topic turns out to have other partitions."""
        loop = asyncio.get_running_loop()
        self._heard_at = -PROBE_SECONDS
        while (known := consumer.partitions_for_topic(SCORED_SIGNALS)) in (None, set(), self._partitions):
            if loop.time() - self._heard_at >= PROBE_SECONDS:
                await self._probe(consumer, backoff)
            found = await consumer.getmany(timeout_ms=int(POLL_SECONDS * 1000), max_records=MOST_MESSAGES)
            if found:
                self._heard_at = loop.time()
                batch = [_received(record) for records in found.values() for record in records]
                metrics.INGEST_BUFFERED.labels("kafka").set(len(batch))
                await self._acceptance.accept(batch)
                metrics.INGEST_BUFFERED.labels("kafka").set(0)
                self._done.update(_ends(found))
            await self._commit(consumer)
            await self._measure(consumer)
        log.info("%s has %d partitions", SCORED_SIGNALS, len(known))
        self._partitions = set(known)

    async def _probe(self, consumer: AIOKafkaConsumer, backoff: Backoff) -> None:
        """Ask the broker whether it is there: the driver reconnects by itself and reports nothing."""
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                await consumer.topics()
        except Exception as error:  # noqa: BLE001 - its errors have no common base: OSError, KafkaError, AssertionError
            if self.is_open:
                log.warning("Kafka at %s is unavailable: %s: %s", self._servers, type(error).__name__, error)
            self._show(is_open=False)
            await asyncio.sleep(backoff.next())
            return
        backoff.reset()
        if not self.is_open:
            log.info("reading %s of Kafka at %s", SCORED_SIGNALS, self._servers)
        self._heard_at = asyncio.get_running_loop().time()
        self._show(is_open=True)

    async def _commit(self, consumer: AIOKafkaConsumer) -> None:
        """Commit the durable offsets. What fails now is committed with the next batch; read again, it is known."""
        if not self._done:
            return
        try:
            async with asyncio.timeout(COMMIT_SECONDS):
                await consumer.commit(self._done)
        except Exception as error:  # noqa: BLE001 - as above
            log.warning("offsets of %s are not committed: %s: %s", SCORED_SIGNALS, type(error).__name__, error)
        else:
            self._done.clear()

    async def _measure(self, consumer: AIOKafkaConsumer) -> None:
        lag = 0
        for partition in consumer.assignment():
            end = consumer.highwater(partition)
            if end is not None:  # it has been fetched from, so its position is known
                lag += max(0, end - await consumer.position(partition))
        self.lag = lag
        metrics.INGEST_LAG.set(lag)

    def _show(self, *, is_open: bool) -> None:
        self.is_open = is_open
        metrics.INGEST_CONNECTED.labels("kafka").set(is_open)


def _received(record: ConsumerRecord[bytes, bytes]) -> Received:
    origin = f"{record.topic}/{record.partition}@{record.offset}"
    return Received.by_kafka(record.value or b"", origin, record.timestamp)


def _ends(found: Mapping[TopicPartition, Sequence[ConsumerRecord[bytes, bytes]]]) -> dict[TopicPartition, int]:
    return {partition: records[-1].offset + 1 for partition, records in found.items()}


async def _close(consumer: AIOKafkaConsumer) -> None:
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await consumer.stop()
    except Exception as error:  # noqa: BLE001 - closing fails while the broker is unavailable
        log.debug("the Kafka consumer did not close: %r", error)
