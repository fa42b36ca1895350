"""Define the stored record of a session: its owner, its filter and its checkpoints."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import orjson

from handlers.streams.checkpoints import unpack_checkpoints
from handlers.streams.client import StreamClient
from schemas.stream import SignalFilter


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """A session's stored record. `owner` is the user's id, or empty for a reader who is not signed in.

    Each take-over by another connection raises `epoch`; `n` is the number of the newest checkpoint. `holder` is the
    gateway that has stored it.
    """

    epoch: int
    n: int
    owner: str
    filter: SignalFilter
    checkpoints: bytes
    holder: str = field(default="", compare=False)

    @classmethod
    def of(cls, client: StreamClient) -> SessionRecord:
        """Return the record of an open stream."""
        return cls(
            client.epoch,
            client.last_checkpoint[0],
            client.viewer.user_id or "",
            client.group.filter,
            client.checkpoints,
        )

    @property
    def version(self) -> tuple[int, int]:
        """The record's version: of two records of a session, the one with the higher version is the newer."""
        return self.epoch, self.n

    @property
    def is_tombstone(self) -> bool:
        """Whether the record is a tombstone: a newer one exists elsewhere."""
        return not self.checkpoints

    def tombstone(self) -> SessionRecord:
        """Return the tombstone for an older record: it replaces that record and cannot be resumed."""
        return replace(self, checkpoints=b"")

    def encode(self, holder: str = "") -> bytes:
        """Encode as `<epoch> <n> <owner and filter as JSON>\\n<checkpoints>`: Redis reads the two numbers.

        The holder is stored among the filter's fields, where gateways of an earlier version ignore it.
        """
        document = orjson.dumps([self.owner, {**self.filter.to_document(), "held_by": holder}])
        return b"%d %d %b\n%b" % (self.epoch, self.n, document, self.checkpoints)

    @classmethod
    def decode(cls, data: bytes) -> SessionRecord:
        """Decode a record, the inverse of `encode`. Raises ValueError."""
        head, _, checkpoints = data.partition(b"\n")
        epoch, n, document = head.split(b" ", 2)
        try:
            owner, wanted = orjson.loads(document)
            holder = wanted.get("held_by", "")
            record = cls(int(epoch), int(n), owner, SignalFilter.from_document(wanted), checkpoints, holder)
            hash(record)
        except (TypeError, AttributeError) as error:
            raise ValueError("not the record of a session") from error
        if type(owner) is not str or type(holder) is not str:
            raise ValueError("not the record of a session")
        unpack_checkpoints(checkpoints)
        return record
