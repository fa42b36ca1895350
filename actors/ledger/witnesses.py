"""Ask witnesses to cosign a checkpoint (c2sp.org/tlog-witness): all at once, each within a deadline."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import aiohttp

from actors.tlog.notes import Checkpoint, NoteRejected, parse_key, parse_note
from actors.tlog.proofs import encode_hashes
from config.backoff import Backoff
from config.tasks import spawn

log = logging.getLogger(__name__)

ASK_SECONDS: Final = 2.0  # the checkpoint waits for it
BACKOFF_SECONDS: Final = (10.0, 600.0)
_MOST_BYTES: Final = 20_000

Prove = Callable[[int, int], Awaitable[list[bytes]]]
"""Returns the proof of consistency between two sizes."""


class WitnessFailed(Exception):
    """A witness gave no cosignature."""


class Witnesses:
    """The witnesses of a log. One that fails is left out, and asked again after a wait that doubles."""

    def __init__(self, given: Sequence[str]) -> None:
        self._all = [LogWitness(*each.split()) for each in given]
        self._session: aiohttp.ClientSession | None = None

    async def cosign(self, note: str, checkpoint: Checkpoint, prove: Prove) -> str:
        """Return the signature lines of those that cosign in time."""
        if not self._all:
            return ""
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=ASK_SECONDS)
            self._session = aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar())
        session = self._session
        asked = [spawn(each.cosign(session, note, checkpoint, prove), name="witness") for each in self._all]
        return "".join(await asyncio.gather(*asked))

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()


class LogWitness:
    """One witness: its address, its key, and the size that it has cosigned last, as far as we know."""

    def __init__(self, url: str, key: str) -> None:
        self._url = f"{url.rstrip('/')}/add-checkpoint"
        self._key = parse_key(key)
        self._size = 0
        self._backoff = Backoff(*BACKOFF_SECONDS)
        self._not_before = 0.0

    async def cosign(self, session: aiohttp.ClientSession, note: str, checkpoint: Checkpoint, prove: Prove) -> str:
        """Return the witness's signature line, or nothing."""
        clock = asyncio.get_running_loop().time
        if clock() < self._not_before:
            return ""
        try:
            async with asyncio.timeout(ASK_SECONDS):
                line = await self._ask(session, note, checkpoint, prove)
        except (WitnessFailed, NoteRejected, aiohttp.ClientError, OSError, TimeoutError, UnicodeError) as error:
            wait = self._backoff.next()
            self._not_before = clock() + wait
            log.warning("witness %s: %s; asked again in %.0f s", self._key.name, str(error) or "no answer", wait)
            return ""
        self._size = checkpoint.size
        self._backoff.reset()
        return line

    async def _ask(self, session: aiohttp.ClientSession, note: str, checkpoint: Checkpoint, prove: Prove) -> str:
        size = checkpoint.size
        status, answer = await self._post(session, note, await prove(self._size, size))
        if status == 409 and answer.strip().isdecimal() and len(answer) < 20:
            self._size = int(answer)
            if self._size > size:
                text = f"it has seen {self._size} entries, and the log has {size}: the database was put back"
                self._size = 0
                raise WitnessFailed(text)
            status, answer = await self._post(session, note, await prove(self._size, size))
        if status != 200:
            raise WitnessFailed(f"it answers {status}: {answer[:200].strip()!r}")
        return self._line(note, answer)

    async def _post(self, session: aiohttp.ClientSession, note: str, proof: Sequence[bytes]) -> tuple[int, str]:
        body = "\n".join([f"old {self._size}", *encode_hashes(proof), "", note])
        async with session.post(self._url, data=body.encode(), allow_redirects=False) as response:
            content = await response.content.read(_MOST_BYTES)
        return response.status, content.decode()

    def _line(self, note: str, answer: str) -> str:
        """Return the line of the answer that is this witness's signature; anything else of it is dropped."""
        for line in answer.splitlines(keepends=True):
            if line.startswith(f"\u2014 {self._key.name} "):
                signed = parse_note(note + line)
                if self._key in signed.signers([self._key]):
                    return line
        raise WitnessFailed("it answers without its signature")
