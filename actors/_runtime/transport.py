"""Carry batches of messages to an actor: to one in another process as bytes, to one in this process as they are."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from actors._runtime.messages import UNDECODABLE, Envelope, decode, encode
from schemas.errors import Internal


class Undelivered(Exception):
    """There is no reply: the batch may have been processed, or not."""


class Unsendable(Exception):
    """The batch has not been processed, because of one of its messages or of its size; `error` is the cause."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class Transport(Protocol):
    """Carry batches to one actor."""

    async def send(self, batch: Sequence[Envelope]) -> Sequence[object]:
        """Return the replies, in order.

        Raises Undelivered: the batch is then sent again, perhaps to another process. Raises Unsendable, for a single
        message too: the batch is then sent in halves. A batch that was sent is processed to the end even if the caller
        is cancelled.
        """


class BytesTransport:
    """Carry batches as bytes, of at most `most_bytes` unless it is one message; `deliver` raises Undelivered."""

    def __init__(self, deliver: Callable[[bytes], Awaitable[bytes]], most_bytes: int) -> None:
        self._deliver = deliver
        self._most_bytes = most_bytes

    async def send(self, batch: Sequence[Envelope]) -> Sequence[object]:
        """See Transport."""
        try:
            payload = encode([tuple(each) for each in batch])
        except Exception as error:  # noqa: BLE001 - pickling runs arbitrary code
            raise Unsendable(error) from None
        if len(payload) > self._most_bytes and len(batch) > 1:
            raise Unsendable(ValueError(f"a batch of {len(payload)} bytes"))
        answer = await self._deliver(payload)
        if answer == UNDECODABLE:
            raise Unsendable(Internal("the actor cannot read the message: does it run other code?"))
        replies: Sequence[object] = decode(answer)
        return replies
