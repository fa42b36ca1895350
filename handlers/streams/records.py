"""What is remembered of a session: who it belongs to, its filter and its marks."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import orjson

from handlers.streams.checkpoints import unpack_checkpoints
from handlers.streams.client import Client
from schemas.stream import SignalFilter


@dataclass(frozen=True, slots=True)
class Record:
    """A session as it is remembered. `owner` is the user's id, or empty for anybody who is not signed in.

    Each take-over by another connection raises `epoch`; `n` is the number of the newest mark. `holder` is the gateway
    that has stored it.
    """

    epoch: int
    n: int
    owner: str
    filter: SignalFilter
    checkpoints: bytes
    holder: str = field(default="", compare=False)

    @classmethod
    def of(cls, client: Client) -> Record:
        """The record of an open stream."""
        return cls(
            client.epoch, client.last_mark[0], client.viewer.user_id or "", client.group.filter, client.checkpoints
        )

    @property
    def version(self) -> tuple[int, int]:
        """Of two records of a session, the one with the higher version is the newer."""
        return self.epoch, self.n

    @property
    def is_buried(self) -> bool:
        """Whether it says only that there is a newer record elsewhere."""
        return not self.checkpoints

    def buried(self) -> Record:
        """What is left where an older record was: it takes that one's place and can be resumed by nobody."""
        return replace(self, checkpoints=b"")

    def encode(self, holder: str = "") -> bytes:
        """`<epoch> <n> <owner and filter as JSON>\\n<marks>`: Redis reads the two numbers.

        The holder stands among the filter's fields, where gateways of an earlier version pass it over.
        """
        document = orjson.dumps([self.owner, {**self.filter.to_document(), "held_by": holder}])
        return b"%d %d %b\n%b" % (self.epoch, self.n, document, self.checkpoints)

    @classmethod
    def decode(cls, data: bytes) -> Record:
        """The inverse of `encode`. Raises ValueError."""
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
