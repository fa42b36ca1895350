"""Sign the log's size and root as a checkpoint, at most once a second, when the log has grown."""

from __future__ import annotations

import logging
from functools import partial
from typing import Final
from urllib.parse import urlsplit

from actors._runtime.context import ActorContext
from actors.ledger.log_key import LogRefused, log_key
from actors.ledger.log_tiles import LogIncomplete, from_tiles, load_frontier
from actors.ledger.witnesses import Witnesses
from actors.tlog.notes import Checkpoint, NoteRejected, Signer, parse_checkpoint, parse_key, parse_note
from actors.tlog.tree import EMPTY_ROOT, ProofFailed, consistency_proof, verify_consistency
from config.clock import now
from config.settings import Settings
from db import log as sql
from db._postgres import Connection
from db.log import StoredCheckpoint

log = logging.getLogger(__name__)

CHECKPOINT_SECONDS: Final = 1.12  # ± 10 %
WITNESSED_SECONDS: Final = 10.0  # where witnesses are asked each time
READ_SECONDS: Final = 10.0


class Checkpoints:
    """Signs what is committed, for the one owner of the log.

    A checkpoint is stored, in a fenced transaction, before anybody is shown it, and only if the log is a continuation
    of the one that was stored last. So two processes that both believe to be the owner sign the same log, and a crash
    loses at most a signature. The private key is in memory and in its file alone.
    """

    def __init__(self, context: ActorContext) -> None:
        self._context = context
        self._signer: Signer
        self._last: Checkpoint
        self._witnesses = Witnesses(context.settings.witnesses)
        self._complaint = ""

    async def start(self) -> None:
        """Compare the log with its last checkpoint, sign it, and go on signing. Raises LogRefused."""
        settings = self._context.settings
        async with self._context.connection(deadline_seconds=READ_SECONDS) as conn:
            stored = await sql.latest_checkpoint(conn)
            origin = origin_of(settings, stored)
            self._signer = Signer(origin, log_key(settings))
            self._last = Checkpoint(origin, 0, EMPTY_ROOT) if stored is None else self._open(stored)
            checkpoint = await self._read(conn, (await sql.read_state(conn)).size)
        if stored is None or checkpoint != self._last or stored.vkey != str(self._signer.key):
            await self._store(checkpoint)
        seconds = WITNESSED_SECONDS if settings.witnesses else CHECKPOINT_SECONDS
        self._context.every(seconds, self._go_on, name="sign the log")

    async def close(self) -> None:
        """Close the connections to the witnesses."""
        await self._witnesses.close()

    async def sign(self) -> None:
        """Make the next checkpoint if the log has grown. Raises LogRefused."""
        async with self._context.connection(deadline_seconds=READ_SECONDS) as conn:
            size = (await sql.read_state(conn)).size
            if size == self._last.size:
                return
            checkpoint = await self._read(conn, size)
        await self._store(checkpoint)

    async def _go_on(self) -> None:
        try:
            await self.sign()
        except LogRefused as refused:
            if str(refused) != self._complaint:  # once, not every second
                log.error("%s", refused)
            self._complaint = str(refused)

    async def _store(self, checkpoint: Checkpoint) -> None:
        note = self._signer.sign(checkpoint.text)
        note += await self._witnesses.cosign(note, checkpoint, self._prove)
        row = StoredCheckpoint(checkpoint.size, note, str(self._signer.key), now())
        async with self._context.transaction() as conn:
            await sql.store_checkpoint(conn, row)
        self._last = checkpoint

    async def _read(self, conn: Connection, size: int) -> Checkpoint:
        """Return the head of the stored log, once it is known to continue the last checkpoint."""
        last = self._last
        if size < last.size:
            raise LogRefused(f"the log has {size} entries, and {last.size} were signed: the database was put back")
        try:
            root = (await load_frontier(conn, size)).root()
            proof = await from_tiles(conn, partial(consistency_proof, last.size, size))
            verify_consistency(last.size, last.root, size, root, proof)
        except (LogIncomplete, ProofFailed) as error:
            text = f"the log is not the one whose first {last.size} entries were signed, and nothing is signed: {error}"
            raise LogRefused(text) from None
        return Checkpoint(last.origin, size, root)

    async def _prove(self, old_size: int, size: int) -> list[bytes]:
        async with self._context.connection(deadline_seconds=READ_SECONDS) as conn:
            return await from_tiles(conn, partial(consistency_proof, old_size, size))

    def _open(self, stored: StoredCheckpoint) -> Checkpoint:
        """Return the stored checkpoint if our key, or a former one, signed it."""
        try:
            note = parse_note(stored.note)
            keys = [self._signer.key, *map(parse_key, self._context.settings.log_former_keys)]
            if note.signers(keys):
                return parse_checkpoint(note)
        except NoteRejected as error:
            raise LogRefused(f"the stored checkpoint of {stored.size} entries: {error}") from None
        raise LogRefused(
            f"the log was signed by {stored.vkey}, and LOG_KEY_FILE is another key. Put the former file back; or, to "
            "replace it, name that public key in LOG_FORMER_KEYS, and tell everybody who has kept it the new one"
        )


def origin_of(settings: Settings, stored: StoredCheckpoint | None) -> str:
    """Return the log's name: the one that was signed, LOG_ORIGIN, or API_URL's host and path. Raises LogRefused."""
    if stored is None:
        address = urlsplit(settings.api_url)
        return settings.log_origin or f"{address.netloc.rpartition('@')[2]}{address.path.rstrip('/')}/log"
    origin = stored.note.partition("\n")[0]
    if settings.log_origin not in (None, origin):
        raise LogRefused(f"LOG_ORIGIN: the log is called {origin!r}; another name would be another log")
    return origin
