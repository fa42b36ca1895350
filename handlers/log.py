"""Serve the public log: its checkpoints and tiles in C2SP's formats, and the proofs that follow from them."""

from __future__ import annotations

from functools import partial
from typing import Final

from actors.ledger.log_tiles import from_tiles, read_tile
from actors.tlog.proofs import Proof, encode_hashes
from actors.tlog.tiles import parse_tile
from actors.tlog.tree import consistency_proof, inclusion_proof
from config.documents import Loaded
from db import log as sql
from db._postgres import Connection, connection
from db.log import StoredCheckpoint
from handlers._http.base import GatewayHandler, known_id
from handlers._http.endpoint import endpoint
from schemas.errors import InvalidQuery, NotFound
from schemas.log import Consistency, ConsistencyQuery

_TEXT: Final = "text/plain"
_BINARY: Final = "application/octet-stream"
_FOR_EVER: Final = "public, max-age=31536000, immutable"


class _LogHandler(GatewayHandler):
    """The base of what the log serves as it is, to be cached and compared."""

    def send(self, content: str | bytes, media_type: str, caching: str) -> None:
        """Send the content."""
        self.conditional = True
        self.set_header("Content-Type", f"{media_type}; charset=utf-8" if media_type == _TEXT else media_type)
        self.set_header("Cache-Control", caching)
        self.finish(content)


class LogCheckpoint(_LogHandler):
    """`/log/checkpoint`"""

    @endpoint("The log's latest checkpoint", media_type=_TEXT, errors=(404, 503))
    async def get(self) -> None:
        """A signed note (c2sp.org/tlog-checkpoint): the log's name, its size and the root of its tree."""
        async with connection(self.services.pool) as conn:
            latest = await _latest(conn)
        self.send(latest.note, _TEXT, "no-cache")


class LogKey(_LogHandler):
    """`/log/key`"""

    @endpoint("The public key that signs the log's checkpoints", media_type=_TEXT, errors=(404, 503))
    async def get(self) -> None:
        """A verifier key (c2sp.org/signed-note). Keep it: a log that is signed by another key is another log."""
        async with connection(self.services.pool) as conn:
            latest = await _latest(conn)
        self.send(f"{latest.vkey}\n", _TEXT, "no-cache")


class LogTile(_LogHandler):
    """`/log/tile/{tile}`"""

    @endpoint("A tile of the log", media_type=_BINARY, errors=(404, 503))
    async def get(self, tile: str) -> None:
        """Hashes (`{level}/{index}`) or entries (`entries/{index}`), as c2sp.org/tlog-tiles names and encodes them.

        A tile has 256 of them; one of the right edge has fewer, and its name says how many: `0/x001/234.p/8`. Only what
        the latest checkpoint covers is there, and never changes.
        """
        found = parse_tile(tile)
        if found is None:
            raise NotFound("There is no such tile")
        async with connection(self.services.pool) as conn:
            latest = await _latest(conn)
            if found.entries > latest.size:
                raise NotFound("No checkpoint covers this tile yet")
            content = await read_tile(conn, found)
        self.send(content, _BINARY, _FOR_EVER)


class LogConsistency(GatewayHandler):
    """`/api/log/consistency`"""

    @endpoint("Prove that the log only grew", query=ConsistencyQuery(), responds=Consistency(), errors=(404, 503))
    async def get(self, query: Loaded) -> object:
        """The proof (RFC 6962 § 2.1.2) that the log of one size is the beginning of the log of a later one."""
        old_size, size = query["start"], query["end"]
        async with connection(self.services.pool) as conn:
            latest = await _latest(conn)
            if old_size > size:
                raise InvalidQuery.of("from", "must be at most `to`")
            if size > latest.size:
                raise InvalidQuery.of("to", f"must be at most {latest.size}, the size of the latest checkpoint")
            hashes = await from_tiles(conn, partial(consistency_proof, old_size, size))
        return {"hashes": encode_hashes(hashes)}


class SignalProof(_LogHandler):
    """`/api/signals/{signal_id}/proof`"""

    @endpoint("Prove that a signal is in the log", media_type=_TEXT, errors=(404, 503))
    async def get(self, signal_id: str) -> None:
        """Complete in itself (c2sp.org/tlog-proof): the entry's index, hashes up to the root, and the checkpoint.

        404 also until a checkpoint covers the signal, which takes about a second.
        """
        wanted = known_id(signal_id, "Signal")
        async with connection(self.services.pool) as conn:
            index, latest = await sql.find_signal(conn, wanted), await _latest(conn)
            if index is None or index >= latest.size:
                raise NotFound("No checkpoint covers such a signal yet")
            hashes = await from_tiles(conn, partial(inclusion_proof, index, latest.size))
        self.send(str(Proof(index, tuple(hashes), latest.note)), _TEXT, "no-cache")


async def _latest(conn: Connection) -> StoredCheckpoint:
    latest = await sql.latest_checkpoint(conn)
    if latest is None:
        raise NotFound("The log has no checkpoint yet")
    return latest
