"""`run.py witness`: cosign the checkpoints of logs, as long as each continues the last one (c2sp.org/tlog-witness)."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import tornado.web
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

from actors.ledger.log_key import LogRefused, kept_key
from actors.tlog.notes import (
    Checkpoint,
    NoteRejected,
    Signer,
    VerifierKey,
    parse_checkpoint,
    parse_key,
    parse_note,
)
from actors.tlog.proofs import decode_hashes
from actors.tlog.tree import EMPTY_ROOT, ProofFailed, verify_consistency
from server.verify import NotVerified
from server.verify.kept import Kept, default_folder
from server.verify.source import LogSource

_MOST_BYTES: Final = 64 << 10
_TEXT: Final = "text/plain; charset=utf-8"
_SIZE: Final = "text/x.tlog.size"
_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True, slots=True)
class WitnessOptions:
    """Which servers' logs to witness, under which name, and where to listen."""

    urls: Sequence[str]
    name: str | None = None
    host: str = "127.0.0.1"
    port: int = 8700
    folder: Path | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class WitnessAnswer:
    """An answer to a submitted checkpoint."""

    status: int
    body: str
    media_type: str = _TEXT


@dataclass(frozen=True, slots=True)
class SubmittedCheckpoint:
    """A checkpoint that is to be cosigned, and the proof that it continues the one of `old_size`."""

    old_size: int
    proof: Sequence[bytes]
    checkpoint: Checkpoint
    note: str


class Witness:
    """Cosigns checkpoints of the logs that it knows, by the names in their keys.

    The last checkpoint of each is on the disk before it is cosigned, and nothing is awaited in between: two requests
    cannot both continue the same one.
    """

    def __init__(self, signer: Signer, logs: Mapping[VerifierKey, Kept]) -> None:
        self.signer = signer
        self._logs = {key.name: (key, kept) for key, kept in logs.items()}

    def add(self, body: bytes) -> WitnessAnswer:
        """Answer `POST /add-checkpoint`. Raises NotVerified if what is kept cannot be read or written."""
        try:
            submitted = parse_submission(body)
        except ValueError as error:  # as NoteRejected, ProofFailed and UnicodeDecodeError are
            return WitnessAnswer(400, f"{error}\n")
        origin = submitted.checkpoint.origin
        if origin not in self._logs:
            return WitnessAnswer(404, "this log is not known here\n")
        key, kept = self._logs[origin]
        try:
            if not parse_note(submitted.note).signers([key]):
                raise NoteRejected("it is not signed by the log's key")
        except NoteRejected as error:
            return WitnessAnswer(403, f"{error}\n")
        return self._continue(submitted, kept, kept.checkpoint or Checkpoint(origin, 0, EMPTY_ROOT))

    def _continue(self, submitted: SubmittedCheckpoint, kept: Kept, last: Checkpoint) -> WitnessAnswer:
        checkpoint = submitted.checkpoint
        is_other = checkpoint.size == last.size and checkpoint.root != last.root
        if submitted.old_size != last.size or is_other:
            return WitnessAnswer(409, f"{last.size}\n", _SIZE)
        try:
            verify_consistency(last.size, last.root, checkpoint.size, checkpoint.root, submitted.proof)
        except ProofFailed as error:
            return WitnessAnswer(422, f"{error}\n")
        kept.keep_checkpoint(submitted.note)
        return WitnessAnswer(200, self.signer.cosign(checkpoint.text, int(time.time())))


def parse_submission(body: bytes) -> SubmittedCheckpoint:
    """Return what was submitted. Raises ValueError and NoteRejected, which is one."""
    head, gap, note = body.decode().partition("\n\n")
    old, *proof = head.split("\n")
    checkpoint = parse_checkpoint(parse_note(note))
    number = old.removeprefix("old ")
    if not gap or not old.startswith("old ") or _NUMBER.fullmatch(number) is None or int(number) > checkpoint.size:
        raise ValueError("the old size is missing, malformed, or larger than the new one")
    return SubmittedCheckpoint(int(number), decode_hashes(proof), checkpoint, note)


class AddCheckpoint(tornado.web.RequestHandler):
    """`POST /add-checkpoint`"""

    def initialize(self, witness: Witness) -> None:
        """Tornado's constructor."""
        self._witness = witness

    def post(self) -> None:
        """Answer."""
        answer = self._witness.add(self.request.body)
        self.set_status(answer.status)
        self.set_header("Content-Type", answer.media_type)
        self.finish(answer.body)


def serve_witness(witness: Witness, host: str, port: int) -> tuple[HTTPServer, int]:
    """Listen; return the server and its port. Raises OSError."""
    application = tornado.web.Application(
        [("/add-checkpoint", AddCheckpoint, {"witness": witness})], log_function=_quiet
    )
    server = HTTPServer(
        application, max_body_size=_MOST_BYTES, max_buffer_size=2 * _MOST_BYTES, idle_connection_timeout=60
    )
    sockets = bind_sockets(port, host)
    server.add_sockets(sockets)
    return server, int(sockets[0].getsockname()[1])


def run(options: WitnessOptions, say: Callable[[str], None] = print) -> int:
    """Witness until Ctrl-C or SIGTERM; return 2 if it cannot."""
    try:
        asyncio.run(_run(options, say))
    except (NotVerified, LogRefused, OSError, ValueError) as error:
        sys.stderr.write(f"witness: {error}\n")
        return 2
    return 0


async def _run(options: WitnessOptions, say: Callable[[str], None]) -> None:
    folder = (options.folder or default_folder()) / "witness"
    name = options.name or f"{socket.gethostname()}/witness"
    signer = Signer(name, kept_key(folder / "witness.pem"))
    logs = dict([await _log(url, folder, options.key) for url in options.urls])
    server, port = serve_witness(Witness(signer, logs), options.host, options.port)
    say(f"Witness of {', '.join(key.name for key in logs)}. For their settings:")
    say(f"  WITNESSES=http://{options.host}:{port} {signer.cosigning_key}")
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for each in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(each, stopped.set)
    await stopped.wait()
    server.stop()
    await server.close_all_connections()


async def _log(url: str, folder: Path, given: str | None) -> tuple[VerifierKey, Kept]:
    """Return a log's key (the one that was given, or kept, or is shown at the first start) and what is kept of it."""
    if not url.startswith(("http://", "https://")):
        raise NotVerified(f"{url!r} does not begin with http:// or https://")
    kept = Kept(folder, url)
    key = parse_key(given) if given else kept.key
    if key is None:
        source = LogSource(url)
        try:
            key = parse_key(await source.text("/log/key"))
        finally:
            await source.close()
    kept.keep_key(key)
    return key, kept


def _quiet(handler: object) -> None:
    """Log nothing about requests."""
